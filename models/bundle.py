"""A bundle: one folder with a denoiser, its noise schedule, a classifier and the manifest that binds them.

    bundle.json          this file's subject
    README.md            model card (prose, outside the digest)
    denoiser/            config.json, diffusion_pytorch_model.safetensors     (diffusers)
    scheduler/           scheduler_config.json                                (diffusers)
    classifier/          classifier.json: its library and preprocessing       (models.preprocessing)
                         config.json, model.safetensors                       (timm, transformers, torchvision)
                         or model.onnx
    graph/               graph.xml, graph.bin: the networks as one function   (OpenVINO, models.graph)

Where no scale is denoised there are no denoiser/ and scheduler/. Where each scale has a classifier of its own, they
stand in classifiers/SIGMA/ instead, as classifiers/0.25/. Where the classifier is asked over the network
(models.remote) there is none.

The graph is made of the source folders (models.convert); a CPU reads it without torch. Format 1 has none.

Nothing here imports torch, so that the command line can list and check bundles in any environment. Two rules:

1. Weights are safetensors, ONNX and the graph's constants only, and only files that the manifest lists with their
   SHA-256 may stand in these folders: a pickle that somebody drops beside them is refused, not ignored.
2. The digest covers whatever changes a vote or the meaning of a certificate: files, classes, shape, sigmas,
   timesteps, thresholds, final, chunk, dtype, preprocessing and ADDED. Name, version, provenance and figures are
   outside it, so that a card can be remeasured without making a new bundle of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .errors import BundleError
from .files import read_object
from .manifest import ADDED, FINALS, GRAPH, NORMS, SOURCES, Final, Manifest, Norm, own_classifier

__all__ = (
    "BUNDLES",
    "FINALS",
    "GRAPH",
    "MANIFEST",
    "NORMS",
    "Final",
    "Manifest",
    "Norm",
    "file_digests",
    "find_bundle",
    "list_bundles",
    "load_manifest",
    "own_classifier",
    "save_manifest",
    "verify",
)

BUNDLES = Path(__file__).parent / "bundles"  # shipped bundles are package data
MANIFEST = "bundle.json"
FORMATS = (1, 2, 3)  # without a graph, with one, and with any of ADDED or several classifiers
FOLDERS = (*SOURCES, "graph")


def load_manifest(folder: Path) -> Manifest:
    """Read and check folder/bundle.json. Does not read the weights; `verify` does. Raises BundleError."""
    path = folder / MANIFEST
    raw = read_object(path, missing=f"a bundle is a folder with a {MANIFEST}")
    declared_format, declared_digest = raw.pop("format", None), raw.pop("digest", None)
    if type(declared_format) is not int or declared_format not in FORMATS:
        raise BundleError(f"{path}: format: expected {' or '.join(map(str, FORMATS))}, got {declared_format!r}")
    try:
        manifest = Manifest(**_typed(raw))
        digest = manifest.digest
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        raise BundleError(f"{path}: missing, unknown or badly typed field: {error}") from error
    if declared_format != manifest.format:
        raise BundleError(f"{path}: format: expected {manifest.format} by the other fields, got {declared_format}")
    if declared_digest != digest:
        raise BundleError(f"{path}: digest: expected {digest} from the other fields, got {declared_digest!r}")
    return manifest


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write folder/bundle.json, readable by people: one field a line, the digest among them."""
    body = {"format": manifest.format, "digest": manifest.digest, **asdict(manifest)}
    unneeded = set(ADDED) - manifest.added().keys()
    for name in unneeded if manifest.has_graph else {*unneeded, "timesteps"}:  # without a graph there are none
        del body[name]
    (folder / MANIFEST).write_text(json.dumps(body, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in the bundle's folders of networks, by its path inside the bundle."""
    paths = (path for name in FOLDERS for path in sorted((folder / name).rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest. Raises BundleError naming the first that is missing, altered or extra."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path}: no such file, but {MANIFEST} lists it under files")
        actual = _sha256(path)
        if actual != expected:
            raise BundleError(f"{path}: sha256: expected {expected} (files[{name}] in {MANIFEST}), got {actual}")
    for extra in sorted(file_digests(folder).keys() - manifest.files.keys()):
        raise BundleError(f"{folder / extra}: {MANIFEST} does not list this file; refusing to load beside it")


def list_bundles() -> tuple[str, ...]:
    """Names of the shipped bundles."""
    return tuple(sorted(path.parent.name for path in BUNDLES.glob(f"*/{MANIFEST}")))


def find_bundle(name_or_path: str | Path) -> Path:
    """Folder of a shipped bundle by name, or of any bundle by path. A name wins over a folder of that name.

    Example: find_bundle("digits"), find_bundle("./my-bundle"). Raises BundleError naming what exists.
    """
    if str(name_or_path) in list_bundles():
        return BUNDLES / str(name_or_path)
    folder = Path(name_or_path)
    if (folder / MANIFEST).is_file():
        return folder
    raise BundleError(
        f"{name_or_path}: expected a shipped bundle ({', '.join(list_bundles()) or 'none are shipped'}) "
        f"or a folder with a {MANIFEST}"
    )


def _typed(raw: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as tuples and its whole numbers as floats where the manifest wants reals."""
    fields = dict(raw)
    for key in ("classes", "input_shape"):
        fields[key] = tuple(fields[key]) if isinstance(fields.get(key), list) else ()
    for key in ("noise", "denoised"):
        if isinstance(fields.get(key), list):
            fields[key] = tuple(fields[key])
    for key in ("sigmas", "thresholds", "timesteps"):
        values = fields.get(key, [] if key == "timesteps" else None)
        fields[key] = tuple(float(v) if type(v) is int else v for v in values) if isinstance(values, list) else ()
    return fields


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
