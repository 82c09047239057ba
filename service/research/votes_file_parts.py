"""A file of votes while it is being filled: a part for each image, so that a kill costs one image; then one file.

FILE.parts/ holds a small .npz for each image and facts.json, the parameters that they were drawn with.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...models.files import check_file
from ..backends.base import BackendInfo
from ..core import PilotPlan
from ..errors import DataError
from .fixed_budget import Drawn
from .tables import load_facts, save_facts
from .votes_file import BROKEN, UNSAID, VotesFile, load_votes, save_arrays, save_votes

__all__ = ("VoteParts", "open_votes")


@contextmanager
def open_votes(
    path: Path, info: BackendInfo, facts: Mapping[str, Any], *, shard: tuple[int, int, int] | None = None
) -> Iterator[VoteParts]:
    """Begin the file of votes at `path`, or go on with it: shards that name one file after another all end up in it.

    One process at a time, from before the file is read until it is replaced: what another wrote meanwhile would be
    lost. info: of the backend that draws. facts: everything that votes depend on, with "data", "split" and
    "data_digest" among it. shard: which one this run is, as VotesFile.shards has it; None: the file will not say what
    is missing of it. Raises DataError when the file is being written, or was drawn with other parameters.
    """
    check_file(path)
    folder = _folder(path)
    lock = _lock(folder, path)
    try:
        yield VoteParts(path, info, facts, shard)
    finally:
        with suppress(OSError):  # only an empty one: with parts in it, the next run goes on from them
            folder.rmdir()
        os.close(lock)


class VoteParts:
    """Made by open_votes()."""

    def __init__(
        self, path: Path, info: BackendInfo, facts: Mapping[str, Any], shard: tuple[int, int, int] | None
    ) -> None:
        self._path, self._info, self._facts = path, info, dict(facts)
        self._folder = _folder(path)
        self._there: dict[int, tuple[int, Drawn]] = {}
        self._shards = UNSAID if shard is None else np.array([shard], dtype=np.int64)  # once this run has ended
        if path.exists():
            self._take(load_votes(path))
        kept = self._folder / "facts.json"
        if kept.exists():
            self._compare(load_facts(kept), self._folder)
        else:
            save_facts(self._facts, kept)

    def get(self, idx: int) -> Drawn | None:
        if idx in self._there:
            return self._there[idx][1]
        part = self._read(self._part(idx))
        return None if part is None else part[1]

    def put(self, idx: int, label: int, drawn: Drawn) -> None:
        """Whole or not at all. What is there already stays."""
        part = self._part(idx)
        if idx in self._there or part.exists():
            return
        arrays = {
            "truth": label,
            "plain": drawn.plain,
            "pilot": drawn.pilot,
            "votes": drawn.votes.astype(np.int32),
            "label": drawn.plan.label,
            "planned": drawn.plan.level,
            "weights": np.array(drawn.plan.weights),
        }
        save_arrays(part, arrays)

    def finish(self) -> int:
        """Write every image's votes, in order of idx, into the file; remove the parts. Returns their number."""
        images = dict(self._there)
        for path in self._folder.glob("[0-9]*.npz"):
            if (part := self._read(path)) is not None:
                images[int(path.stem)] = part
        if images:
            save_votes(self._file(images), self._path)
        shutil.rmtree(self._folder)
        return len(images)

    def _part(self, idx: int) -> Path:
        return self._folder / f"{idx}.npz"

    @staticmethod
    def _read(part: Path) -> tuple[int, Drawn] | None:
        """None where there is none, or only a piece, which is removed: the image is then drawn again."""
        try:
            with open(part, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
                plan = PilotPlan(int(stored["label"]), int(stored["planned"]), tuple(map(float, stored["weights"])))
                drawn = Drawn(int(stored["plain"]), stored["pilot"], stored["votes"].astype(np.int64), plan)
                return int(stored["truth"]), drawn
        except FileNotFoundError:
            return None
        except BROKEN:
            part.unlink()
            return None

    def _take(self, votes: VotesFile) -> None:
        self._compare(
            {
                **self._facts,
                "sigmas": votes.sigmas.tolist(),
                "thresholds": votes.thresholds.tolist(),
                "final": votes.final,
                "alpha": votes.alpha,
                "samples": votes.samples,
                "data_digest": votes.data_digest,
                "bundle_digest": votes.bundle_digest,
                "runtime": votes.runtime,
                "seed": votes.seed,
                **({"noise": votes.noise.tolist(), "radius_norm": votes.norm} if votes.noise.size else {}),
            },
            self._path,
        )
        for i, idx in enumerate(votes.idx.tolist()):
            plan = PilotPlan(int(votes.label[i]), int(votes.planned[i]), tuple(votes.weights[i].tolist()))
            drawn = Drawn(int(votes.plain[i]), votes.pilot[i], votes.votes[i].astype(np.int64), plan)
            self._there[idx] = int(votes.labels[i]), drawn
        said = len(votes.shards) and len(self._shards)  # a file that is silent of its images stays so
        self._shards = np.unique(np.concatenate([votes.shards, self._shards]), axis=0) if said else UNSAID

    def _compare(self, theirs: Mapping[str, Any], where: Path) -> None:
        for name, ours in self._facts.items():
            if theirs.get(name) != ours:
                raise DataError(f"{where}: {name}: expected {ours}, got {theirs.get(name)}; name another --votes")

    def _file(self, images: dict[int, tuple[int, Drawn]]) -> VotesFile:
        order = sorted(images)
        truth = [images[idx][0] for idx in order]
        drawn = [images[idx][1] for idx in order]
        facts = self._facts
        return VotesFile(
            sigmas=np.array(facts["sigmas"]),
            thresholds=np.array(facts["thresholds"]),
            final=facts["final"],
            alpha=facts["alpha"],
            chunk=self._info.chunk,
            grain=self._info.grain,
            idx=np.array(order, dtype=np.int64),
            labels=np.array(truth, dtype=np.int64),
            plain=np.array([each.plain for each in drawn], dtype=np.int64),
            pilot=np.stack([each.pilot for each in drawn]),
            votes=np.stack([each.votes for each in drawn]).astype(np.int32),
            label=np.array([each.plan.label for each in drawn], dtype=np.int64),
            planned=np.array([each.plan.level for each in drawn], dtype=np.int64),
            weights=np.array([each.plan.weights for each in drawn]),
            data=facts["data"],
            split=facts["split"],
            data_digest=facts["data_digest"],
            bundle_digest=facts["bundle_digest"],
            runtime=facts["runtime"],
            seed=facts["seed"],
            noise=np.array(facts.get("noise", []), dtype=np.str_),
            norm=facts.get("radius_norm", "l2"),
            shards=self._shards,
        )


def _folder(path: Path) -> Path:
    return path.with_name(path.name + ".parts")


def _lock(folder: Path, path: Path) -> int:
    """The folder's descriptor, locked until it is closed. Raises DataError when another process has it."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise DataError(f"{path}: expected a place for votes and their parts: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise DataError(
                f"{path}: expected votes that nobody writes, and another process does; wait for it, or give each "
                "shard a file of its own: certify curve and certify tune take several"
            ) from error
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), folder.stat()):
                return lock
        os.close(lock)  # who had it ended between, and took the folder away
