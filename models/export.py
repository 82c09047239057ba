"""A bundle as a Triton model repository: `certify bundles export BUNDLE --out REPO [--device cuda]`.

    REPO/mdds/config.pbtxt   from the manifest; its parameter `certify` tells a gateway everything it must know
    REPO/mdds/warmup/        the inputs of Triton's warm-up request: one chunk at the finest scale
    REPO/mdds/1/model.py     and beside it the bundle and the files of certify.models that it needs

`tritonserver --model-repository REPO` serves it as it is; its Python needs openvino, or for the engine torch what the
extra `torch` has, not this project.
Equal inputs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

from .bundle import MANIFEST, Manifest, load_manifest, verify
from .errors import BundleError
from .noise import GENERATOR
from .pipeline import check_micro_batch
from .runtime import RuntimeOptions, options_for, usable_cores
from .write import whole_folder

__all__ = ("export", "facts_of")

MODEL = "mdds"
# A model runs without.
NOT_SERVING = {
    "__init__", "cost", "datasets", "export", "pack", "pack_classifiers", "pack_folders", "pack_report", "pack_sources",
    "pack_trial", "retries", "upgrade", "write",
}  # fmt: skip
DEVICES = ("cpu", "cuda")
ENGINE = "auto"  # the fastest that is installed here
MAX_BATCH = 64  # requests that one execute() may be handed: a pile of 64 small ones still answers within a second or so
QUEUE = 256  # requests: four full batches; a later one is better refused at once
# A minute in the queue is longer than any client of ours waits (service.settings.call_seconds); requests carry less.
QUEUE_MICROSECONDS = 60_000_000


def facts_of(manifest: Manifest, options: RuntimeOptions, *, instances: int) -> dict[str, Any]:
    """The model's parameter `certify`, for gateways. `identity` names whatever can move a vote or a claim."""
    claims = {
        "bundle": {"digest": manifest.digest},
        "classes": list(manifest.classes),
        "input_shape": list(manifest.input_shape),
        **_scales(manifest),
        "thresholds": list(manifest.thresholds),
        "final": manifest.final,
        "chunk": manifest.chunk,
        "grain": options.micro_batch_for(manifest),
        "runtime": {
            "generator": GENERATOR,
            "device": options.device,
            "engine": options.engine,
            "dtype": options.runs_in(manifest.dtype),  # a server whose CPU runs it in another refuses the model
        },
    }
    identity = "sha256:" + hashlib.sha256(_json(claims).encode()).hexdigest()
    return {
        **claims,
        "bundle": {"name": manifest.name, "version": manifest.version, "digest": manifest.digest},
        "identity": identity,
        "instances": instances,
    }


def _scales(manifest: Manifest) -> dict[str, Any]:
    """Where all noise is Gaussian and the norm L2, `sigmas` alone, as ever.

    Otherwise `scales` in its place: a gateway that knows no other noise misses it, and refuses the model.
    """
    sigmas = list(manifest.sigmas)  # JSON has the shortest text that reads back as the same float64
    if not manifest.noise and manifest.norm == "l2":
        return {"sigmas": sigmas}
    return {"scales": {"sigmas": sigmas, "noise": list(manifest.noise), "norm": manifest.norm}}


def export(
    bundle: Path,
    out: Path,
    *,
    device: str = "cpu",
    engine: str = ENGINE,
    micro_batch: int | None = None,
    instances: int | None = None,
) -> None:
    """Write the repository `out`, whole or not at all; an older export there is replaced, anything else refused.

    engine, micro_batch: as for models.runtime.options_for; the server's Python must have the engine too.
    instances: processes that run the model; None = one for each usable core on a CPU, one on a GPU. Raises BundleError
    if the bundle is altered, there is no such engine or `out` is something else than an export, ValueError for another
    argument.
    """
    if device not in DEVICES:
        raise ValueError(f"device: expected one of {DEVICES}, got {device!r}")
    if instances is not None and instances < 1:
        raise ValueError(f"instances: expected at least 1, got {instances}")
    instances = instances or (usable_cores() if device == "cpu" else 1)
    manifest = load_manifest(bundle)
    if manifest.remote:
        raise BundleError(
            f"{bundle}: remote: expected a classifier in the bundle, got one at {manifest.remote['url']}; a gateway "
            "asks it by itself: certify serve --backend embedded --bundle DIR"
        )
    options = options_for(device, engine, bundle=bundle, micro_batch=micro_batch)
    check_micro_batch(options.micro_batch_for(manifest), manifest)
    verify(bundle, manifest)
    with whole_folder(out, replaces=lambda folder: [path.name for path in folder.iterdir()] == [MODEL]) as repository:
        _write(repository / MODEL, bundle, manifest, options, instances)


def _write(model: Path, bundle: Path, manifest: Manifest, options: RuntimeOptions, instances: int) -> None:
    source = Path(__file__).parent
    version = model / "1"
    package = version / "certify" / "models"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text('"""What the model needs of certify."""\n', encoding="utf-8")
    (model / "warmup").mkdir()
    shutil.copyfile(source / "triton" / MODEL / "1" / "model.py", version / "model.py")
    for module in sorted(source.glob("*.py")):
        if module.stem not in NOT_SERVING:
            shutil.copyfile(module, package / module.name)
    for name in (MANIFEST, *manifest.files):
        target = version / "bundle" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, target)
    (model / "warmup" / "sigma").write_bytes(struct.pack("<d", manifest.sigmas[0]))
    (model / "warmup" / "count").write_bytes(struct.pack("<i", manifest.chunk))
    facts = facts_of(manifest, options, instances=instances)
    (model / "config.pbtxt").write_text(_config(facts), encoding="utf-8")


def _config(facts: dict[str, Any]) -> str:
    gpu = facts["runtime"]["device"] == "cuda"
    shape = ", ".join(str(n) for n in facts["input_shape"])
    # On a CPU no request waits for company: while the instances are busy, requests pile up by themselves. A GPU is
    # fast enough to be idle in between; a millisecond then collects the others that are on their way.
    delay = 1000 if gpu else 0
    return f"""# Written by `certify bundles export`; change the bundle or the export, not this file.
name: "{MODEL}"
backend: "python"
max_batch_size: {MAX_BATCH}
input [
  {{ name: "IMAGE" data_type: TYPE_FP32 dims: [ {shape} ] }},
  {{ name: "SIGMA" data_type: TYPE_FP64 dims: [ 1 ] }},
  {{ name: "SEED" data_type: TYPE_UINT64 dims: [ 1 ] }},
  {{ name: "FIRST" data_type: TYPE_INT64 dims: [ 1 ] }},
  {{ name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] }}
]
output [ {{ name: "VOTES" data_type: TYPE_INT64 dims: [ {len(facts["classes"])} ] }} ]
instance_group [ {{ kind: {"KIND_GPU" if gpu else "KIND_CPU"} count: {facts["instances"]} }} ]
dynamic_batching {{
  max_queue_delay_microseconds: {delay}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {QUEUE_MICROSECONDS}
    allow_timeout_override: true
    max_queue_size: {QUEUE}
  }}
}}
model_warmup [ {{
  name: "one chunk"
  batch_size: 1
  inputs {{ key: "IMAGE" value {{ data_type: TYPE_FP32 dims: [ {shape} ] zero_data: true }} }}
  inputs {{ key: "SIGMA" value {{ data_type: TYPE_FP64 dims: [ 1 ] input_data_file: "sigma" }} }}
  inputs {{ key: "SEED" value {{ data_type: TYPE_UINT64 dims: [ 1 ] zero_data: true }} }}
  inputs {{ key: "FIRST" value {{ data_type: TYPE_INT64 dims: [ 1 ] zero_data: true }} }}
  inputs {{ key: "COUNT" value {{ data_type: TYPE_INT32 dims: [ 1 ] input_data_file: "count" }} }}
}} ]
parameters [ {{ key: "certify" value {{ string_value: {json.dumps(_json(facts))} }} }} ]
"""


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
