"""Whether OpenVINO can run a bundle here, found out in a child process: a compiler that crashes ends only the child.

The verdict is kept in a file, in $XDG_CACHE_HOME/certify/openvino or ~/.cache/certify/openvino, under a name made of
all that it depends on: the bundle, the micro-batch, the CPU and the packages. Where no file can be written, each start
tries again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from .bundle import BUNDLES, Manifest, load_manifest, verify
from .engine_openvino import OpenVinoEngine, cpu_facts, graph_of
from .engines import OPENVINO
from .pipeline import check_micro_batch

__all__ = ("refusal", "run_once")

logger = logging.getLogger(__name__)

# How a compiler ends a process. Other signals come from outside, as when memory is short: a verdict not to be kept.
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
# A child's exit status, beside 0; Python's own, 1 and 2, say that the trial went wrong.
FAILED, NOT_REACHED = 3, 4
TRIAL = 2  # raised when a trial finds what an earlier one let pass
RUN = f"from {__name__} import run_once; run_once()"
LONGEST = 500  # characters of an error's end that are handed on


def refusal(folder: Path, *, micro_batch: int) -> str | None:
    """Why OpenVINO cannot run the bundle in `folder` at this micro-batch, in words; None if it can.

    Not tried, and therefore not refused: shipped bundles, which the project's own tests run; anything where this Python
    cannot be started again, as it is part of another program. Raises BundleError if the files are not the manifest's.
    """
    if folder.resolve().parent == BUNDLES.resolve() or not sys.executable:
        return None
    manifest = load_manifest(folder)
    packages = ("openvino",) if manifest.has_graph else ("openvino", "torch", "diffusers", "timm")
    facts = {
        "bundle": manifest.digest,
        "engine": OPENVINO,
        "micro_batch": micro_batch,
        "trial": TRIAL,
        "cpu": cpu_facts(),
        **{package: version(package) for package in packages},
    }
    kept = _folder() / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}.json"
    try:
        verdict: str | None = json.loads(kept.read_text(encoding="utf-8"))["refusal"]
        return verdict
    except (OSError, ValueError, LookupError, TypeError):  # none yet, or none that can be read: a new one replaces it
        verify(folder, manifest)  # the verdict is about the files of this digest
    verdict, lasting = _try(folder, micro_batch)
    if lasting:
        _keep(kept, {**facts, "refusal": verdict})
    return verdict


def _try(folder: Path, micro_batch: int) -> tuple[str | None, bool]:
    """(as `refusal`, whether it would come out so again), from a child that imports what this process does."""
    code = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); {RUN}"
    arguments = (json.dumps([str(path) for path in sys.path]), str(folder.absolute()), str(micro_batch))
    logger.info("a child process tries whether openvino can run the bundle %s", folder)
    child = subprocess.run(
        (sys.executable, "-c", code, *arguments),
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if child.returncode in (0, NOT_REACHED):
        return None, child.returncode == 0
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return f"a child process that tried it ended by {name}", -child.returncode in CRASHES
    return f"a child process that tried it says: {child.stderr.strip()[-LONGEST:]}", child.returncode == FAILED


def run_once() -> None:
    """The child: load, compile and run the bundle of the command line.

    What is wrong with its files is left to the next loading, which says it in its own words.
    """
    folder, micro_batch = Path(sys.argv[2]), int(sys.argv[3])
    try:
        manifest = load_manifest(folder)
        check_micro_batch(micro_batch, manifest)
        model, scales = graph_of(folder, manifest)
    except Exception:
        sys.exit(NOT_REACHED)
    try:
        engine = OpenVinoEngine(
            model, scales, dtype=manifest.dtype, batch=micro_batch,
            streams=1,  # each stream compiles the same
        )  # fmt: skip
        engine.plain(np.zeros((1, *manifest.input_shape), np.float32))
        _alone(engine, manifest, micro_batch)
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(FAILED)


def _alone(engine: OpenVinoEngine, manifest: Manifest, micro_batch: int) -> None:
    """Raises ValueError unless a sample's logits depend on nothing but itself and its place, at each scale.

    Half of a batch changes, then the other half; which half is another one at each scale, so that neighbours and mirror
    images, and whatever else two samples are to each other, come to be on different sides.
    """
    if micro_batch == 1:  # a large picture's: there are no others
        engine.logits(np.zeros((1, *manifest.input_shape), np.float32), manifest.sigmas[0])
        return
    noise = engine.noise(0, 0, micro_batch // manifest.chunk, (manifest.chunk, *manifest.input_shape))
    for number, sigma in enumerate(manifest.sigmas):
        batch, others = 0.5 + sigma * noise, 0.5 - sigma * noise
        logits = engine.logits(batch, sigma)
        if logits.shape != (micro_batch, len(manifest.classes)):
            raise ValueError(f"logits: expected {(micro_batch, len(manifest.classes))}, got {logits.shape}")
        side = np.arange(micro_batch) >> number % max(1, (micro_batch - 1).bit_length()) & 1 == 1
        for stays in (side, ~side):
            mixed = np.where(stays[:, None, None, None], batch, others)
            if not np.array_equal(engine.logits(mixed, sigma)[stays], logits[stays], equal_nan=True):
                raise ValueError(
                    "logits: expected to depend on their sample alone, and they depend on others of its batch"
                )


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # unset, or to be ignored, as its specification says
        base = os.path.expanduser("~/.cache")
    # A user that the system does not know, as in some containers, has no home: nothing can be kept there.
    return Path(base if os.path.isabs(base) else os.devnull) / "certify" / "openvino"


def _keep(path: Path, verdict: dict[str, object]) -> None:
    """Written whole or not at all: replicas may share the folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(verdict, file, indent=2)
        os.replace(file.name, path)
    except OSError as error:
        logger.info("no verdict is kept: %s", error)
