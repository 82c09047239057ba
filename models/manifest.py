"""bundle.json's fields, checked, and the digest of those that can change a vote or the meaning of a certificate.

What they mean together says models.bundle, which reads and writes them.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from .errors import BundleError
from .noises import NOISES, NoiseKind, certified_scale, offsets

__all__ = (
    "ADDED",
    "FINALS",
    "GRAPH",
    "NORMS",
    "SOURCES",
    "Final",
    "Manifest",
    "Norm",
    "has_controls",
    "own_classifier",
)

# How a cascade's finest scale decides: for its most voted class, or for a class above its threshold (the paper's).
Final = Literal["plurality", "threshold"]
Norm = Literal["l2", "l1"]  # that noise can certify

SOURCES = ("denoiser", "scheduler", "classifier", "classifiers")
GRAPH = ("graph/graph.xml", "graph/graph.bin")
DENOISER = (
    "denoiser/config.json",
    "denoiser/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)
CLASSIFIER = ("config.json", "model.safetensors")
ONNX_CLASSIFIER = ("classifier.json", "model.onnx")
SUFFIXES = (".json", ".safetensors", ".onnx")
FINALS: tuple[Final, ...] = get_args(Final)
NORMS: tuple[Norm, ...] = get_args(Norm)
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
    noise: tuple[NoiseKind, ...] = ()  # its kind at each sigma; (): Gaussian at all
    norm: Norm = "l2"  # in which the radius is
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
        self._check_noise()
        self._check_micro_batch()
        self._check_denoised()
        self._check_remote()
        self._check_files()
        self._check_graph()

    def _check_names(self) -> None:
        _require(bool(self.name) and isinstance(self.name, str), "name", "a non-empty string", self.name)
        _require(isinstance(self.version, str), "version", "a string", self.version)
        named = len(self.classes) >= 2 and all(isinstance(c, str) and c for c in self.classes)
        _require(named, "classes", "at least two non-empty names", self.classes)
        _require(len(set(self.classes)) == len(self.classes), "classes", "different names", self.classes)
        obeyed = next(filter(has_controls, self.classes), None)
        _require(obeyed is None, "classes", "names without control characters, which terminals would obey", obeyed)

    def _check_cascade(self) -> None:
        _require(bool(self.sigmas) and all(_real(s) and s > 0 for s in self.sigmas), "sigmas", "> 0", self.sigmas)
        ascending = all(a < b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))
        _require(ascending, "sigmas", "strictly ascending values", self.sigmas)
        shares = len(self.thresholds) == len(self.sigmas) and all(_real(p) and 0.5 <= p < 1 for p in self.thresholds)
        _require(shares, "thresholds", f"{len(self.sigmas)} values in [0.5, 1)", self.thresholds)
        _require(self.final in FINALS, "final", f"one of {FINALS}", self.final)

    def _check_noise(self) -> None:
        kinds, count = self.noise, len(self.sigmas)
        known = isinstance(kinds, tuple) and len(kinds) in (0, count) and all(kind in NOISES for kind in kinds)
        _require(known, "noise", f"one of {NOISES} for each of {count} sigmas, or none where all is Gaussian", kinds)
        counted = "splitting" not in kinds or set(kinds) == {"splitting"}
        _require(counted, "noise", "splitting at each sigma or at none: it is counted, other noise is drawn", kinds)
        _require(self.norm in NORMS, "norm", f"one of {NORMS}", self.norm)
        gaussian = set(kinds) <= {"gaussian"}
        _require(gaussian or self.norm == "l1", "norm", "l1, the only norm of other noise than Gaussian", self.norm)
        for kind, sigma in zip(kinds, self.sigmas, strict=False):
            try:
                certified_scale(kind, sigma)
            except ValueError as error:
                raise BundleError(str(error)) from None
            enough = kind != "splitting" or offsets(sigma) >= self.chunk
            _require(enough, "chunk", f"at most all {offsets(sigma)} samples of sigma {sigma}", self.chunk)

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

    def _check_remote(self) -> None:
        if not self.remote:
            return
        from .remote.declared import KNOWN, Remote  # here: an export for Triton, which has none, goes without

        try:
            remote = Remote.of(self.remote)
        except BundleError as error:
            raise BundleError(f"remote: {error}") from error
        channels, known = self.input_shape[0], remote.known
        _require(remote.input.channels == channels, "remote: input.channels", f"{channels}", remote.input.channels)
        fits = len(known) == KNOWN and max(known) < len(self.classes)
        _require(fits, "remote: known", f"{KNOWN} of {len(self.classes)} classes", known)

    def _check_files(self) -> None:
        folders = [] if self.remote else sorted(set(self.classifiers.values()))
        denoiser = DENOISER if self.denoised_sigmas else ()
        required = (*denoiser, *(f"{folder}/{name}" for folder in folders for name in self._classifier_files(folder)))
        for name in required:
            _require(name in self.files, "files", f"an entry for {name}", sorted(self.files))
        here = [name for name in self.files if self.remote and name.startswith("classifier")]
        _require(not here, "files", f"no entry for {here[0] if here else ''} beside remote", sorted(self.files))
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

    def _classifier_files(self, folder: str) -> tuple[str, ...]:
        """What must be in a classifier's folder."""
        onnx = any(name.startswith(f"{folder}/") and name.endswith(".onnx") for name in self.files)
        return ONNX_CLASSIFIER if onnx else CLASSIFIER

    @property
    def needs_openvino(self) -> bool:
        """Whether torch has no form of its classifier."""
        return any(name.endswith(".onnx") for name in self.files)

    @property
    def sources(self) -> tuple[str, ...]:
        """Files of the networks that the graph is made of."""
        return tuple(name for name in self.files if name not in GRAPH)

    @property
    def format(self) -> int:
        """Raised when an old reader would misread a new manifest."""
        several = len(set(self.classifiers.values())) > 1
        return 3 if several or self.added() else 1 + self.has_graph

    def added(self) -> dict[str, Any]:
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
            **self.added(),
        }
        canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


_DEFAULTS: dict[str, Any] = {"noise": (), "norm": "l2", "denoised": (), "micro_batch": 0, "remote": {}}


def own_classifier(sigma: float) -> str:
    """The folder of a classifier for one scale alone, where there are several."""
    return f"classifiers/{sigma!r}"


def has_controls(name: str) -> bool:
    """Whether a name has control characters: line ends, tabs, a terminal's escapes."""
    return any(unicodedata.category(character) == "Cc" for character in name)


def _require(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        raise BundleError(f"{where}: expected {expected}, got {got!r}")


def _real(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
