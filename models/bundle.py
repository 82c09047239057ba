"""A bundle: one folder with a denoiser, its noise schedule, a classifier and the manifest that binds them.

    bundle.json          this file's subject
    README.md            model card (prose, outside the digest)
    denoiser/            config.json, diffusion_pytorch_model.safetensors     (diffusers)
    scheduler/           scheduler_config.json                                (diffusers)
    classifier/          config.json, model.safetensors                       (timm's hub layout)
    graph/               graph.xml, graph.bin: the networks as one function   (OpenVINO, models.graph)

Where no scale is denoised there are no denoiser/ and scheduler/. Where each scale has a classifier of its own, they
stand in classifiers/SIGMA/ instead, as classifiers/0.25/.

The graph is made of the source folders (models.convert); a CPU reads it without torch. Format 1 has none.

Nothing here imports torch, so that the command line can list and check bundles in any environment. Two rules:

1. Weights are safetensors and the graph's constants only, and only files that the manifest lists with their SHA-256
   may stand in these folders: a pickle that somebody drops beside them is refused, not ignored.
2. The digest covers whatever changes a vote or the meaning of a certificate: files, classes, shape, sigmas,
   timesteps, thresholds, final, chunk, dtype, preprocessing and ADDED. Name, version, provenance and figures are
   outside it, so that a card can be remeasured without making a new bundle of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from .errors import BundleError

__all__ = (
    "BUNDLES",
    "FINALS",
    "GRAPH",
    "MANIFEST",
    "Final",
    "Manifest",
    "file_digests",
    "find_bundle",
    "list_bundles",
    "load_manifest",
    "own_classifier",
    "save_manifest",
    "verify",
)

# How a cascade's finest scale decides: for its most voted class, or for a class above its threshold (the paper's).
Final = Literal["plurality", "threshold"]

BUNDLES = Path(__file__).parent / "bundles"  # shipped bundles are package data
MANIFEST = "bundle.json"
FORMATS = (1, 2, 3)  # without a graph, with one, and with any of ADDED or several classifiers
SOURCES = ("denoiser", "scheduler", "classifier", "classifiers")
FOLDERS = (*SOURCES, "graph")
GRAPH = ("graph/graph.xml", "graph/graph.bin")
DENOISER = (
    "denoiser/config.json",
    "denoiser/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)
CLASSIFIER = ("config.json", "model.safetensors")
SUFFIXES = (".json", ".safetensors")
FINALS: tuple[Final, ...] = get_args(Final)
DTYPES = ("float32", "bfloat16")
# Fields that came with format 3. At its default a field stands neither in the file nor in the digest: a bundle that
# needs none of them is of an earlier format, and stays what it was.
ADDED = ("noise", "norm", "denoised", "micro_batch", "remote")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """bundle.json. Checked when it is made: a Manifest that exists is well formed (its files may still be altered)."""

    name: str
    version: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]  # (C, H, W) of the certified tensor, float32 in [0, 1]
    sigmas: tuple[float, ...]  # ascending, in units of [0, 1] pixels
    thresholds: tuple[float, ...]  # p0 of each sigma, in [0.5, 1)
    final: Final  # how the finest sigma decides
    files: Mapping[str, str]  # "denoiser/config.json" -> 64 hex digits of its SHA-256
    # Of each denoised sigma, by the scheduler, as the graph takes it; none without a graph.
    timesteps: tuple[float, ...] = ()
    # Noise granularity: small enough for short looks, large enough that a keyed generator costs nothing.
    chunk: int = 32
    dtype: str = "float32"
    noise: tuple[str, ...] = ()  # its kind at each sigma; (): Gaussian at all
    norm: str = "l2"  # in which the radius is
    denoised: tuple[bool, ...] = ()  # at each sigma, whether the denoiser stands before the classifier; (): at all
    micro_batch: int = 0  # samples that a CPU should compute together, a GPU eight times as many; 0: models.runtime's
    remote: Mapping[str, Any] = field(default_factory=dict)  # a classifier that is asked over the network
    preprocessing: Mapping[str, Any] = field(default_factory=dict)  # how stored pixels become the certified tensor
    provenance: Mapping[str, Any] = field(default_factory=dict)  # data, split, command; outside the digest
    figures: Mapping[str, Any] = field(default_factory=dict)  # measured; outside the digest

    def __post_init__(self) -> None:
        self._check_names()
        self._check_cascade()
        self._check_runtime()
        self._check_micro_batch()
        self._check_denoised()
        self._check_files()
        self._check_graph()

    def _check_names(self) -> None:
        _require(bool(self.name) and isinstance(self.name, str), "name", "a non-empty string", self.name)
        _require(isinstance(self.version, str), "version", "a string", self.version)
        named = len(self.classes) >= 2 and all(isinstance(c, str) and c for c in self.classes)
        _require(named, "classes", "at least two non-empty names", self.classes)
        _require(len(set(self.classes)) == len(self.classes), "classes", "different names", self.classes)

    def _check_cascade(self) -> None:
        _require(bool(self.sigmas) and all(_real(s) and s > 0 for s in self.sigmas), "sigmas", "> 0", self.sigmas)
        ascending = all(a < b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))
        _require(ascending, "sigmas", "strictly ascending values", self.sigmas)
        shares = len(self.thresholds) == len(self.sigmas) and all(_real(p) and 0.5 <= p < 1 for p in self.thresholds)
        _require(shares, "thresholds", f"{len(self.sigmas)} values in [0.5, 1)", self.thresholds)
        _require(self.final in FINALS, "final", f"one of {FINALS}", self.final)

    def _check_runtime(self) -> None:
        sides = len(self.input_shape) == 3 and all(type(n) is int and n > 0 for n in self.input_shape)
        _require(sides, "input_shape", "three positive integers (C, H, W)", self.input_shape)
        _require(self.dtype in DTYPES, "dtype", f"one of {DTYPES}", self.dtype)
        _require(type(self.chunk) is int and self.chunk > 0, "chunk", "a positive integer", self.chunk)

    def _check_micro_batch(self) -> None:
        whole = type(self.micro_batch) is int and self.micro_batch >= 0 and self.micro_batch % self.chunk == 0
        _require(whole, "micro_batch", f"0 or a multiple of the chunk, {self.chunk}", self.micro_batch)

    def _check_denoised(self) -> None:
        known = len(self.denoised) == len(self.sigmas) and all(type(is_so) is bool for is_so in self.denoised)
        wanted = f"{len(self.sigmas)} of true and false, not all true, or none where all are"
        _require(self.denoised == () or (known and not all(self.denoised)), "denoised", wanted, self.denoised)

    def _check_files(self) -> None:
        folders = sorted(set(self.classifiers.values()))
        denoiser = DENOISER if self.denoised_sigmas else ()
        required = (*denoiser, *(f"{folder}/{name}" for folder in folders for name in CLASSIFIER))
        for name in required:
            _require(name in self.files, "files", f"an entry for {name}", sorted(self.files))
        used = {PurePosixPath(name).parent for name in (*required, *GRAPH)}
        for name, digest in self.files.items():
            path = PurePosixPath(name)
            inside = not path.is_absolute() and ".." not in path.parts and path.parts[0] in SOURCES
            known = name in GRAPH or (inside and path.suffix in SUFFIXES)
            _require(known, "files", f"{SUFFIXES} files inside {SOURCES}, and {' and '.join(GRAPH)}", name)
            needed = used.intersection(path.parents)
            _require(bool(needed), "files", f"files of {', '.join(sorted(map(str, used)))}, as the scales need", name)
            hexadecimal = isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")
            _require(hexadecimal, f"files[{name}]", "64 lower-case hex digits", digest)

    def _check_graph(self) -> None:
        there = [name for name in GRAPH if name in self.files]
        _require(len(there) in (0, len(GRAPH)), "files", f"{' and '.join(GRAPH)}, or neither", there)
        count = len(self.denoised_sigmas) if there else 0
        known = len(self.timesteps) == count and all(_real(t) and t >= 0 for t in self.timesteps)
        wanted = f"{count} values >= 0, one of each denoised sigma" if there else "none without a graph"
        _require(known, "timesteps", wanted, self.timesteps)

    @property
    def has_graph(self) -> bool:
        """Whether a CPU can run it without torch."""
        return GRAPH[0] in self.files

    @property
    def denoised_sigmas(self) -> tuple[float, ...]:
        """Scales at which the denoiser stands before the classifier; at the others that sees the noise itself."""
        if not self.denoised:
            return self.sigmas
        return tuple(sigma for sigma, is_so in zip(self.sigmas, self.denoised, strict=True) if is_so)

    @property
    def classifiers(self) -> dict[float, str]:
        """The classifier's folder of each sigma; the finest scale's is the plain classifier."""
        several = len(self.sigmas) > 1 and any(name.startswith("classifiers/") for name in self.files)
        return {sigma: own_classifier(sigma) if several else "classifier" for sigma in self.sigmas}

    @property
    def sources(self) -> tuple[str, ...]:
        """Files of the networks that the graph is made of."""
        return tuple(name for name in self.files if name not in GRAPH)

    @property
    def format(self) -> int:
        """Raised when an old reader would misread a new manifest."""
        several = len(set(self.classifiers.values())) > 1
        return 3 if several or self._added() else 1 + self.has_graph

    def _added(self) -> dict[str, Any]:
        """What of ADDED this bundle needs."""
        values = {name: getattr(self, name) for name in ADDED}
        return {name: value for name, value in values.items() if value != _DEFAULTS[name]}

    @property
    def digest(self) -> str:
        """ "sha256:<64 hex digits>" of the fields that change votes or certificates, as canonical JSON."""
        meaning = {
            "format": self.format,
            "files": dict(self.files),
            "classes": self.classes,
            "input_shape": self.input_shape,
            "sigmas": self.sigmas,
            "thresholds": self.thresholds,
            "final": self.final,
            "chunk": self.chunk,
            "dtype": self.dtype,
            "preprocessing": dict(self.preprocessing),
            **({"timesteps": self.timesteps} if self.has_graph else {}),
            **self._added(),
        }
        canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


_DEFAULTS: dict[str, Any] = {"noise": (), "norm": "l2", "denoised": (), "micro_batch": 0, "remote": {}}


def own_classifier(sigma: float) -> str:
    """The folder of a classifier for one scale alone, where there are several."""
    return f"classifiers/{sigma!r}"


def load_manifest(folder: Path) -> Manifest:
    """Read and check folder/bundle.json. Does not read the weights; `verify` does. Raises BundleError."""
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file; a bundle is a folder with a {MANIFEST}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: expected JSON, got: {error}") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{path}: expected a JSON object, got {type(raw).__name__}")
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
    unneeded = set(ADDED) - manifest._added().keys()
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


def _require(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        raise BundleError(f"{where}: expected {expected}, got {got!r}")


def _real(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


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
