"""The contract between the gateway and whatever runs the network.

Only `(image, sigma, seed, first, count)` goes to a backend and only votes come back: noise is drawn where the network
runs. A noise stream is named by (seed, sigma) and cut into chunks of `info().chunk` samples; chunk j is one keyed
generator's output. Any part of a stream can therefore be read in any order, in parallel, by any replica, again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...models.bundle import Final, Norm
from ...models.noise import grey_steps
from ...models.noises import NoiseKind, certified_scale, offsets
from ..core import Cascade, Noise
from ..errors import BackendUnavailable

__all__ = (
    "AheadDraw",
    "Backend",
    "BackendInfo",
    "DrawsAhead",
    "Runtime",
    "Shows",
    "cascade_of",
    "check_range",
    "check_votes",
)


_SMALL_BYTES = 4096  # of float32 pixels: to look a larger image up takes as long as to check it


def cascade_of(
    sigmas: Sequence[float], threshold: float | Sequence[float], final: Final, kinds: Sequence[NoiseKind] = ()
) -> Cascade:
    """What the core certifies of these scales: each kind's constant is that of what is drawn (models.noises).

    kinds: of each sigma; () is Gaussian at all. Raises ValueError, naming the argument.
    """
    if len(kinds) not in (0, len(sigmas)):
        raise ValueError(f"noise: expected {len(sigmas)} kinds, one for each sigma, got {len(kinds)}")
    noise = [Noise(kind, certified_scale(kind, sigma)) for kind, sigma in zip(kinds, sigmas, strict=False)]
    return Cascade.of(sigmas, threshold, final, noise)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What really computed the votes. Votes are equal on every replica of one runtime; a certificate names it."""

    generator: str  # "philox-int-1" | "numpy-multinomial-v2" (fake)
    device: str  # "cpu" | "cuda" | "none" (fake)
    engine: str  # "torch" | ... | "fake"
    dtype: str  # "float32" | "bfloat16"


@dataclass(frozen=True, kw_only=True)
class BackendInfo:
    """What the gateway knows of a bundle without importing `models`. `sigmas` ascend; `thresholds` go with them."""

    kind: str  # "embedded" | "triton" | "fake"
    bundle_name: str
    bundle_digest: str  # "sha256:<64 hex digits>"
    bundle_version: str = ""  # its maker's own; the digest has no part of it
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]  # (C, H, W)
    sigmas: tuple[float, ...]  # ascending, in units of [0, 1] pixels
    thresholds: tuple[float, ...]  # one per sigma, each in [0.5, 1)
    final: Final
    chunk: int  # noise granularity, samples
    grain: int  # samples computed together, a multiple of chunk: a call of other multiples pays for padding
    runtime: Runtime
    noise: tuple[NoiseKind, ...] = ()  # of each sigma; (): Gaussian at all
    norm: Norm = "l2"  # in which a request's radius is unless it says otherwise
    libraries: tuple[tuple[str, str], ...] = ()  # (package, version) of what computes, if it is known; in no seed

    def __post_init__(self) -> None:
        self.cascade  # noqa: B018  # whose own checks these are
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")
        if self.grain < 1 or self.grain % self.chunk:
            raise ValueError(f"grain must be a multiple of chunk ({self.chunk}), got {self.grain}")

    @property
    def cascade(self) -> Cascade:
        """The bundle's own scales, thresholds, noises and rule."""
        return cascade_of(self.sigmas, self.thresholds, self.final, self.noise)

    @property
    def noises(self) -> tuple[NoiseKind, ...]:
        """The kind of each sigma's noise."""
        gaussian: NoiseKind = "gaussian"
        return self.noise or (gaussian,) * len(self.sigmas)

    def whole(self, sigma: float) -> int | None:
        """How many samples the scale has in all, if they are numbered and not drawn; None: as many as are asked for."""
        if not self.noise or self.noise[self.sigmas.index(sigma)] != "splitting":
            return None
        return offsets(sigma)


class Backend(Protocol):
    """One per process. Every method may be called from many tasks at once; cancelling a call stops its work soon."""

    async def open(self) -> None:
        """Load or connect, then check with one real forward. Raises BackendUnavailable or BundleError.

        After close() it may be called again, and may find another bundle.
        """

    async def close(self) -> None:
        """Release everything; a second call does nothing."""

    def info(self) -> BackendInfo:
        """Legal only between open() and close(), and the same all the time between them."""

    def outdated(self) -> bool:
        """Whether nothing that can be reached runs info() any more, but something else: close() and open() adopt it."""

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """Votes per class, int64 (K,), over samples first..first+count-1 of the stream (seed, sigma); sums to count.

        image: (C, H, W) float32, each value n / 255. sigma: one of info().sigmas. seed: uint64. first >= 0 and
        count > 0 are multiples of info().chunk; the last samples of a scale that has info().whole(sigma) may be fewer.
        Raises ValueError on anything else, BackendUnavailable when it fails.
        """

    async def chunk_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """As count_votes, but of each chunk by itself: int64 (count / chunk, K), for files of votes.

        Not of a scale that has info().whole(sigma): its chunks are no draws.
        """

    async def classify(self, image: NDArray[np.float32]) -> int:
        """The plain classifier's class index for the clean image: no noise, no denoiser, no guarantee."""


class AheadDraw(Protocol):
    """Votes that nobody waits for yet."""

    async def votes(self) -> NDArray[np.int64]:
        """Wait for them, as count_votes; what has not begun is no longer put off."""

    def drop(self) -> bool:
        """Nobody will wait for them. Whether they had begun: then they are drawn in vain."""


@runtime_checkable
class DrawsAhead(Protocol):
    """What a backend may have besides: hands that would idle while one request's look is drawn."""

    def width(self) -> int:
        """Pieces of info().grain samples that it computes at once."""

    def draw_ahead(self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int) -> AheadDraw:
        """count_votes' arguments and votes, begun only while fewer than width() pieces are under way and nobody waits.

        Raises as count_votes does.
        """


@runtime_checkable
class Shows(Backend, Protocol):
    """What a backend may have besides: pictures of what its network sees, which are never counted."""

    async def pictures(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The first `count` samples of the stream (seed, sigma), and each denoised: float32 (count, C, H, W); None at a
        scale without a denoiser. image: as for count_votes. Raises as it does.
        """


def check_range(info: BackendInfo, image: NDArray[np.float32], sigma: float, seed: int, first: int, count: int) -> None:
    """Raise ValueError, saying what was expected and what came, unless the arguments of count_votes are legal."""
    if image.shape != info.input_shape or image.dtype != np.float32:
        raise ValueError(f"image: expected float32 {info.input_shape}, got {image.dtype} {image.shape}")
    if image.nbytes <= _SMALL_BYTES:
        _check_small(image.tobytes())
    else:
        _check_pixels(image)
    if sigma not in info.sigmas:
        raise ValueError(f"sigma: expected one of {list(info.sigmas)}, got {sigma}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: expected an unsigned 64-bit integer, got {seed}")
    _check_multiple("first", first, info.chunk, minimum=0)
    whole = info.whole(sigma)
    if whole is not None and first + count > whole:
        raise ValueError(f"first, count: expected at most all {whole} samples of sigma {sigma}, got {first}, {count}")
    if count < 1 or first + count != whole:
        _check_multiple("count", count, info.chunk, minimum=info.chunk)


@lru_cache(maxsize=256)
def _check_small(pixels: bytes) -> None:
    """Once of each image: a request's calls have the same one, some twenty of them."""
    _check_pixels(np.frombuffer(pixels, dtype=np.float32))


def _check_pixels(image: NDArray[np.float32]) -> None:
    if not (image.min() >= 0.0 and image.max() <= 1.0):  # NaN is neither
        raise ValueError("image: expected finite values in [0, 1]")
    grey_steps(image)


def check_votes(votes: NDArray[np.int64], info: BackendInfo, count: int) -> None:
    """Raise BackendUnavailable unless these are int64 votes (K,), none negative, one for each of `count` samples."""
    classes = len(info.class_names)
    counts = votes.tolist() if votes.shape == (classes,) and votes.dtype == np.int64 else [-1]
    if min(counts) < 0 or sum(counts) != count:
        raise BackendUnavailable(f"the backend answered impossible votes for {count} samples of {classes} classes")


def _check_multiple(name: str, value: int, chunk: int, *, minimum: int) -> None:
    if value < minimum or value % chunk:
        raise ValueError(f"{name}: expected a multiple of {chunk}, at least {minimum}, got {value}")
