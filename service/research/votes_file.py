"""Votes of a whole data set, as an .npz: everything that a policy needs to certify, so that one sampling serves all.

Every image has a pilot and N estimation samples at *every* scale, kept by chunk, so that a policy that would have
stopped earlier can be replayed. Label, planned level and weights are chosen from the pilot alone: bounds over the
estimation samples then hold at once for whatever was planned (docs/protocol.md, 3.2).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.bundle import FINALS, Final, Norm
from ...models.files import said_by_numpy, whole_file
from ..backends.base import cascade_of
from ..core import Cascade
from ..errors import DataError

__all__ = ("BROKEN", "OLDER_GRAIN", "VotesFile", "join_votes", "load_votes", "save_arrays", "save_votes")

# Files of before `grain` was kept come from CPUs, whose micro-batch it was.
OLDER_GRAIN = 64
# The fields with a row for each image.
EACH = ("idx", "labels", "plain", "pilot", "votes", "label", "planned", "weights")
GAUSSIAN: NDArray[np.str_] = np.zeros(0, dtype=np.str_)  # what `noise` is where all of it is Gaussian
UNSAID: NDArray[np.int64] = np.zeros((0, 3), dtype=np.int64)  # what `shards` is where nobody knows
# What numpy raises for a file that is cut off, damaged or another kind of file, and what we do for other shapes in it.
BROKEN = (
    OSError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class VotesFile:
    """n images, K scales ascending, J chunks of N / J samples each, C classes. Checked when it is made."""

    sigmas: NDArray[np.float64]  # (K,)
    thresholds: NDArray[np.float64]  # (K,) that the plan was made for
    final: Final  # likewise
    alpha: float
    chunk: int
    grain: int  # samples that the network took together, a multiple of chunk: where the service's looks end
    idx: NDArray[np.int64]  # (n,) an image's number in its data set
    labels: NDArray[np.int64]  # (n,) true class
    plain: NDArray[np.int64]  # (n,) the classifier on the clean image
    pilot: NDArray[np.int64]  # (n, K, C)
    votes: NDArray[np.int32]  # (n, K, J, C)
    label: NDArray[np.int64]  # (n,) chosen from the pilot
    planned: NDArray[np.int64]  # (n,) level of the planned path, 0 the finest
    weights: NDArray[np.float64]  # (n, K) of Theorem 3
    data: str  # name of the data set
    split: str
    data_digest: str
    bundle_digest: str
    runtime: str
    seed: int  # of the noise: the key's number, as for `certify image --seed`
    # Files of before there were others have neither.
    noise: NDArray[np.str_] = field(default_factory=GAUSSIAN.copy)  # (K,) of each scale; (0,) Gaussian at all
    norm: Norm = "l2"  # of the radii that these votes prove
    # (s, 3) the shards i of n whose runs ended, each as (i, n, images of all n together); older files do not say.
    shards: NDArray[np.int64] = field(default_factory=UNSAID.copy)

    def __post_init__(self) -> None:
        scales, images, classes = len(self.sigmas), len(self.idx), self.pilot.shape[-1]
        shapes = {
            "sigmas": (scales,), "thresholds": (scales,), "labels": (images,), "plain": (images,), "label": (images,),
            "planned": (images,), "weights": (images, scales), "pilot": (images, scales, classes),
        }  # fmt: skip
        for name, shape in shapes.items():
            if (got := getattr(self, name).shape) != shape:
                raise DataError(f"{name}: expected shape {shape}, got {got}")
        if self.votes.ndim != 4 or (self.votes.shape[:2], self.votes.shape[3]) != ((images, scales), classes):
            raise DataError(f"votes: expected shape {(images, scales, 'chunks', classes)}, got {self.votes.shape}")
        if self.final not in FINALS:
            raise DataError(f"final: expected one of {', '.join(FINALS)}, got {self.final!r}")
        if (np.diff(self.sigmas) <= 0).any() or not (self.sigmas > 0).all():
            raise DataError(f"sigmas: expected ascending values > 0, got {self.sigmas.tolist()}")
        if self.chunk < 1 or self.grain < 1 or self.grain % self.chunk:
            raise DataError(f"grain: expected a multiple of chunk, {self.chunk}, got {self.grain}")
        if (self.votes < 0).any() or (self.votes.sum(axis=3) != self.chunk).any():
            raise DataError(f"votes: expected {self.chunk} in each chunk")
        if len(set(self.idx.tolist())) != images:
            raise DataError("idx: expected each image once")
        if self.shards.ndim != 2 or any(not 1 <= i <= n for i, n, _ in self.shards.tolist()):
            raise DataError(f"shards: expected (i, n, images) with 1 <= i <= n, got {self.shards.tolist()}")
        self._check_noise()

    def _check_noise(self) -> None:
        try:
            own = self.cascade().norm
        except ValueError as error:
            raise DataError(str(error)) from None
        if "splitting" in self.noise.tolist():
            raise DataError("noise: expected noise that is drawn, got splitting, whose samples are counted")
        if self.norm != own:
            raise DataError(f"norm: expected {own}, which this noise certifies, got {self.norm!r}")

    def cascade(self, thresholds: Sequence[float] | None = None, final: Final | None = None) -> Cascade:
        """Of these scales and noises; without thresholds or final, the file's."""
        wanted = self.thresholds.tolist() if thresholds is None else list(thresholds)
        return cascade_of(self.sigmas.tolist(), wanted, final or self.final, self.noise.tolist())

    def alone(self, level: int, final: Final) -> Cascade:
        """One scale at threshold 1/2 (Cohen, Rosenfeld and Kolter 2019)."""
        return cascade_of(self.sigmas[[level]].tolist(), 0.5, final, self.noise[level : level + 1].tolist())

    @property
    def expected(self) -> int | None:
        """How many images the run has in all; None where the file does not say."""
        return max((images for _, _, images in self.shards.tolist()), default=None)

    @property
    def pilot_samples(self) -> int:
        """Pilot draws of each image at each scale."""
        return int(self.pilot[0, 0].sum())

    @property
    def samples(self) -> int:
        """N: estimation samples of each image at each scale."""
        return int(self.votes.shape[2]) * self.chunk

    def counts(self, samples: int | None = None) -> NDArray[np.int64]:
        """Votes among the first `samples` (default: all), (n, K, C). Raises DataError when there are not so many."""
        wanted = self.samples if samples is None else samples
        if not 0 < wanted <= self.samples or wanted % self.chunk:
            raise DataError(f"samples: expected a multiple of {self.chunk} up to {self.samples}, got {wanted}")
        counts: NDArray[np.int64] = self.votes[:, :, : wanted // self.chunk].sum(axis=2, dtype=np.int64)
        return counts

    def part(self, positions: Sequence[int]) -> VotesFile:
        """Only these images, in this order: a whole by itself."""
        chosen = list(positions)
        return replace(self, **{name: getattr(self, name)[chosen] for name in EACH}, shards=UNSAID)


def join_votes(files: Sequence[VotesFile]) -> VotesFile:
    """Shards of one run as the whole, images ascending. Raises DataError unless all but their images is the same."""
    first = files[0]
    for other in files[1:]:
        for name in (each.name for each in fields(VotesFile) if each.name not in (*EACH, "shards")):
            ours, theirs = getattr(first, name), getattr(other, name)
            if not np.array_equal(ours, theirs):
                why = "; give all shards one --seed" if name == "seed" else ""
                raise DataError(f"{name}: expected votes of one run, got {ours} and {theirs}{why}")
    try:
        whole: dict[str, Any] = {name: np.concatenate([getattr(file, name) for file in files]) for name in EACH}
    except ValueError as error:  # other numbers of samples or classes
        raise DataError(f"votes: expected votes of one run, of the same shape: {error}") from error
    said = all(len(file.shards) for file in files)  # of an older one among them nobody knows which shard it is
    shards = np.unique(np.concatenate([file.shards for file in files]), axis=0) if said else UNSAID
    return replace(replace(first, **whole).part(np.argsort(whole["idx"]).tolist()), shards=shards)


def save_votes(votes: VotesFile, path: Path) -> None:
    """Whole or not at all. Raises DataError where it cannot be written."""
    arrays = {each.name: np.asarray(getattr(votes, each.name)) for each in fields(votes)}
    if votes.noise.size:  # under another name: an older version would take the noise for Gaussian
        arrays["scales"] = arrays.pop("sigmas")
    save_arrays(path, arrays)


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """A compressed .npz, whole or not at all, under this very name. Raises DataError where it cannot be written."""
    with whole_file(path) as fresh, open(fresh, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_votes(path: Path, *more: Path) -> VotesFile:
    """One file, or the shards of one run. Raises DataError, naming the file and the field, when they are not that."""
    files = [_load(each) for each in (path, *more)]
    try:
        return join_votes(files) if more else files[0]
    except DataError as error:
        raise DataError(f"{', '.join(map(str, (path, *more)))}: {error}") from None


def _load(path: Path) -> VotesFile:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:  # a name it would leave open
            names = [each.name for each in fields(VotesFile)]
            older = {"grain": np.array(OLDER_GRAIN), "noise": GAUSSIAN, "norm": np.array("l2"), "shards": UNSAID}
            values = {**older, **{name: stored[name] for name in names if name in stored}}
            if "scales" in stored:
                values["sigmas"] = stored["scales"]
        if missing := [name for name in names if name not in values]:
            raise DataError(f"there is no {missing[0]}")
        scalars = {name: value.item() for name, value in values.items() if value.ndim == 0}
        return VotesFile(**{**values, **scalars})
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except BROKEN as error:
        raise DataError(f"{path}: expected a file of votes: {said_by_numpy(error)}") from error
