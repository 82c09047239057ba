"""Splitting noise, whose samples are counted to the last: votes of a data set's images, and what they certify."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certify.models.bundle import Final, load_manifest, save_manifest
from certify.models.convert import with_graph
from certify.models.datasets import DataSet
from certify.models.noises import NoiseKind, offsets
from certify.models.runtime import limit_threads, load_pipeline, options_for, usable_cores
from certify.service.answering.images import decode_image
from certify.service.backends.base import cascade_of
from certify.service.core import Cascade
from certify.service.core.counted import counted_certificate
from certify.service.research.curves import Curve

__all__ = ("Counted", "at_offsets", "counted_of")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """Votes of *all* samples of n images at K scales."""

    sigmas: tuple[float, ...]
    thresholds: tuple[float, ...]
    final: Final
    counts: NDArray[np.int64]  # (n, K, C)
    labels: NDArray[np.int64]  # (n,) true class
    runtime: str

    @property
    def offsets(self) -> tuple[int, ...]:
        return tuple(offsets(sigma) for sigma in self.sigmas)

    def cascade(self, thresholds: Sequence[float] | None = None, final: Final | None = None) -> Cascade:
        kinds: list[NoiseKind] = ["splitting"] * len(self.sigmas)
        return cascade_of(self.sigmas, thresholds or self.thresholds, final or self.final, kinds)

    def best(self, name: str, cascade: Cascade) -> Curve:
        """The service's own answers."""
        found = [counted_certificate(cascade, row.tolist()) for row in self.counts]
        return self._curve(name, "best", [(label, of.radius) for label, of in found], sum(self.offsets))

    def single(self, level: int) -> Curve:
        """One scale, by plurality."""
        cascade = cascade_of(self.sigmas[level : level + 1], 0.5, "plurality", ("splitting",))
        found = [counted_certificate(cascade, row[level : level + 1].tolist()) for row in self.counts]
        name = f"sigma {self.sigmas[level]:g} alone, plurality"
        return self._curve(name, "single", [(label, of.radius) for label, of in found], self.offsets[level])

    def first(self, name: str, cascade: Cascade) -> Curve:
        """The paper's certificate: the coarsest scale that is sure of a class decides, and its path alone is taken."""
        found = [_first(cascade, row) for row in self.counts]
        return self._curve(name, "first", found, sum(self.offsets))

    def _curve(self, name: str, policy: str, found: Sequence[tuple[int, float]], samples: int) -> Curve:
        labels, radii = (np.array(each) for each in zip(*found, strict=True))
        return Curve(
            name=name,
            policy=policy,
            sigma=None,
            final=self.final,
            correct=(labels == self.labels) & (radii > 0),
            abstained=radii == 0,
            radius=radii,
            samples=np.full(len(labels), samples),
            norm="l1",
        )


def _first(cascade: Cascade, row: NDArray[np.int64]) -> tuple[int, float]:
    """(label, radius). row: (K, C)."""
    whole = row.sum(axis=1)
    for level in reversed(range(cascade.levels)):
        label = int(row[level].argmax())
        lower, upper = row[:, label] / whole, np.delete(row, label, axis=1).max(axis=1) / whole
        if cascade.own(level, float(lower[level]), float(upper[level])) is not None:
            return label, cascade.certify(lower.tolist(), upper.tolist()).path_radii[level] or 0.0
    return 0, 0.0


def counted_of(dataset: DataSet, folder: Path, path: Path) -> Counted:
    """By a bundle whose noise is splitting at each scale; kept in `path`, which must be of these images and bundle."""
    manifest = load_manifest(folder)
    if not path.exists():
        _count(dataset, folder, path)
    with np.load(path) as kept:
        facts = kept["digest"].item(), kept["runtime"].item()
        if facts[0] != manifest.digest:
            raise SystemExit(f"{path}: expected counts of {manifest.digest}, got {facts[0]}; delete it")
        counts = kept["counts"]
    return Counted(
        sigmas=manifest.sigmas,
        thresholds=manifest.thresholds,
        final=manifest.final,
        counts=counts,
        labels=np.array(dataset.labels_in(manifest.classes)),
        runtime=facts[1],
    )


def _count(dataset: DataSet, folder: Path, path: Path) -> None:
    manifest = load_manifest(folder)
    pipeline = load_pipeline(folder, options_for("cpu", "openvino", bundle=folder))

    def count(work: tuple[int, float]) -> NDArray[np.int64]:
        picture = decode_image(dataset.read(work[0]), manifest.input_shape, resize=False, max_pixels=2**20)
        return pipeline.votes(picture.tensor, sigma=work[1], seed=0, first=0, count=offsets(work[1]))

    pairs = list(itertools.product(range(len(dataset)), manifest.sigmas))
    with ThreadPoolExecutor(usable_cores(), initializer=limit_threads) as pool:
        counts = np.array(list(pool.map(count, pairs))).reshape(len(dataset), len(manifest.sigmas), -1)
    engine = pipeline.engine
    runtime = f"philox-int-1 {engine.device} {engine.name} {engine.dtype}"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, counts=counts, digest=manifest.digest, runtime=runtime)


def at_offsets(folder: Path, whole: Sequence[int], out: Path) -> Path:
    """A bundle's networks at other scales: splitting noise of so many offsets each, in `out`."""
    if (out / "bundle.json").exists():
        return out
    sigmas = tuple(round(n / (2 * math.sqrt(3) * 255), 4) for n in whole)
    assert [offsets(sigma) for sigma in sigmas] == list(whole)
    manifest = load_manifest(folder)
    kinds: list[NoiseKind] = ["splitting"] * len(sigmas)
    fresh = dataclasses.replace(
        manifest,
        name=f"{manifest.name}_alone",
        sigmas=sigmas,
        thresholds=(0.5,) * len(sigmas),
        noise=tuple(kinds),
        norm="l1",
        figures={},
        files={name: manifest.files[name] for name in manifest.sources},
        timesteps=(),
    )
    shutil.copytree(folder, out, dirs_exist_ok=True)
    save_manifest(with_graph(fresh, out), out)
    return out
