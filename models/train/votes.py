"""Draw a bundle's votes over a part of the data set, in worker processes, with a checkpoint to go on from.

Each draw's class is kept, not only the counts: every protocol of the card then replays its own prefix of the same
streams, and a table can be computed again without running the network.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..bundle import Manifest, load_manifest
from ..pipeline import Pipeline
from ..runtime import limit_threads, load_pipeline, options_for, usable_cores
from .data import digits_split, load_digits

__all__ = ("PILOT", "Votes", "collect", "evaluation_seed", "runtime")

PILOT = 128  # pilot draws kept for each scale: the largest pilot (100, in chunks of 32), never reused for estimation
SAVE_SECONDS = 30.0
_FREE = np.uint8(255)  # not drawn yet

Drawn = dict[str, NDArray[np.uint8]]  # by the names of Votes' fields, for one scale: (n, ...) or one image's part


class Votes(NamedTuple):
    """Classes of single draws, uint8; n images, S scales."""

    truth: NDArray[np.int64]  # (n,)
    sigmas: tuple[float, ...]
    plain: NDArray[np.uint8]  # (n,) the classifier on the clean image
    pilot: NDArray[np.uint8]  # (n, S, PILOT)
    estimation: NDArray[np.uint8]  # (n, S, N)
    undenoised: NDArray[np.uint8]  # (n, S, N): the classifier on the noisy image itself; 255 where not asked for

    def counts(self, image: int, level: int, classes: int, first: int, count: int, pilot: bool = False) -> list[int]:
        """Votes per class of draws first..first+count-1."""
        drawn = (self.pilot if pilot else self.estimation)[image, level, first : first + count]
        if len(drawn) != count:
            raise ValueError(f"expected draws {first}..{first + count - 1}, have {self.estimation.shape[2]}")
        return [int(v) for v in np.bincount(drawn, minlength=classes)]


def evaluation_seed(part: str, image: int, sigma: float, purpose: str) -> int:
    """uint64; a stream of its own for each part, image of the data set, scale and purpose."""
    name = f"{part}:{image}:{sigma!r}:{purpose}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "little")


def runtime(manifest: Manifest) -> str:
    """What draws a bundle's votes here: engine, dtype and device."""
    options = options_for()
    return f"{options.engine} {options.runs_in(manifest.dtype)}, {options.device}"


def collect(
    folder: Path,
    part: str,
    sigmas: tuple[float, ...],
    samples: int,
    checkpoints: Path,
    log: Callable[[str], None],
    max_images: int | None = None,
    undenoised: tuple[float, ...] = (),
) -> Votes:
    """Draw `samples` (rounded up to chunks) at each scale for each image of `part` ("tune" or "held_out").

    undenoised: the scales at which the bare classifier is asked about the noisy images too.
    checkpoints: a folder. Each scale has its file there; one that the same networks wrote for the same question is
    gone on from, any other is begun again.
    """
    manifest = load_manifest(folder)
    samples = -(-samples // manifest.chunk) * manifest.chunk
    indices = getattr(digits_split(), part)[:max_images]
    ran, micro_batch = runtime(manifest), options_for().micro_batch
    done: list[Drawn] = []
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    with ProcessPoolExecutor(usable_cores(), context, initializer=_start, initargs=(folder,)) as pool:
        for sigma in sigmas:
            bare = sigma in undenoised
            question = [dict(manifest.files), ran, part, sigma, samples, len(indices), micro_batch, bare]
            key = json.dumps(question, sort_keys=True)
            path = checkpoints / f"{manifest.name}-{part}-{sigma:g}-{samples}.npz"
            drawn = _open_checkpoint(path, key, len(indices), samples)
            todo = [int(i) for i in np.flatnonzero(drawn["plain"] == _FREE)]
            log(f"{part}, sigma {sigma:g}: {samples} draws for each of {len(todo)} images ({len(indices)} in all)")
            jobs = {pool.submit(_draw, part, int(indices[i]), sigma, samples, bare): i for i in todo}
            _gather(jobs, drawn, partial(_save_checkpoint, path, key, drawn), log)
            done.append(drawn)
    stacked = {
        name: np.stack([drawn[name] for drawn in done], axis=1) for name in ("pilot", "estimation", "undenoised")
    }
    return Votes(load_digits().labels[indices], sigmas, done[0]["plain"], **stacked)


def _gather(jobs: dict[Future[Drawn], int], drawn: Drawn, save: Callable[[], None], log: Callable[[str], None]) -> None:
    """Put each job's draws in their place, saving and reporting every SAVE_SECONDS and at the end."""
    began = saved = time.monotonic()
    for number, job in enumerate(as_completed(jobs), start=1):
        for name, labels in job.result().items():
            drawn[name][jobs[job]] = labels
        if time.monotonic() - saved > SAVE_SECONDS or number == len(jobs):
            saved = time.monotonic()
            save()
            rate = number * drawn["estimation"].shape[1] / (saved - began)
            log(f"  {number}/{len(jobs)} images, {rate:.0f} samples/s")


_pipeline: Pipeline | None = None  # of a worker process


def _start(folder: Path) -> None:
    global _pipeline
    limit_threads()
    _pipeline = load_pipeline(folder, options_for(workers=1))


def _draw(part: str, image: int, sigma: float, samples: int, undenoised: bool) -> Drawn:
    """All draws of one image at one scale, in a worker process."""
    assert _pipeline is not None
    x = load_digits().images[image]
    seed = evaluation_seed(part, image, sigma, "estimation")
    pilot_seed = evaluation_seed(part, image, sigma, "pilot")
    labels = {
        "plain": np.asarray(_pipeline.classify(x)),
        "pilot": _pipeline.labels(x, sigma=sigma, seed=pilot_seed, first=0, count=PILOT),
        "estimation": _pipeline.labels(x, sigma=sigma, seed=seed, first=0, count=samples),
    }
    if undenoised:
        labels["undenoised"] = _undenoised(_pipeline, x, sigma, seed, samples)
    return {name: drawn.astype(np.uint8) for name, drawn in labels.items()}


def _undenoised(
    pipeline: Pipeline, image: NDArray[np.float32], sigma: float, seed: int, samples: int
) -> NDArray[np.int64]:
    """Classes of the noisy images without the denoiser, over the same noise."""
    from ..noise import chunk_noise

    chunk = pipeline.manifest.chunk
    parts: list[NDArray[np.int64]] = []
    with torch.inference_mode():
        for chunks in _groups(samples // chunk, size=16):  # 512 samples a forward
            noise = np.concatenate([chunk_noise(seed, j, (chunk, *image.shape)) for j in chunks])
            x = torch.from_numpy(image + np.float32(sigma) * noise)
            parts.append(pipeline.engine.plain(x).argmax(dim=1).numpy())
    return np.concatenate(parts)


def _groups(count: int, size: int) -> Iterator[range]:
    return (range(at, min(at + size, count)) for at in range(0, count, size))


def _open_checkpoint(path: Path, key: str, images: int, samples: int) -> Drawn:
    shapes = {"plain": (), "pilot": (PILOT,), "estimation": (samples,), "undenoised": (samples,)}
    if path.is_file():
        with np.load(path) as stored:
            if str(stored["key"]) == key:
                return {name: stored[name] for name in shapes}
    return {name: np.full((images, *shape), _FREE) for name, shape in shapes.items()}


def _save_checkpoint(path: Path, key: str, drawn: Drawn) -> None:
    """Whole or not at all: an interrupted write must not spoil what was drawn before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".fresh.npz")
    np.savez(fresh, key=np.array(key), **drawn)  # type: ignore[arg-type]  # stubs take keywords for allow_pickle
    os.replace(fresh, path)
