"""A file of votes while it is being filled: a part for each image, so that a kill costs one image; then one file.

FILE.parts/ holds a small .npz for each image and facts.json, the parameters that they were drawn with.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.base import BackendInfo
from ..core import PilotPlan
from ..errors import DataError
from .fixed_budget import Drawn
from .votes_file import VotesFile, load_votes, save_votes

__all__ = ("VoteParts",)


class VoteParts:
    """`facts`: everything that votes depend on, with "data", "split" and "data_digest" among it."""

    def __init__(self, path: Path, info: BackendInfo, facts: Mapping[str, Any]) -> None:
        """info: of the backend that draws.

        Raises DataError when the file or its parts were drawn with other parameters.
        """
        self._path, self._info, self._facts = path, info, dict(facts)
        self._folder = path.with_name(path.name + ".parts")
        self._there: dict[int, tuple[int, Drawn]] = {}
        if path.exists():
            self._take(load_votes(path))
        kept = self._folder / "facts.json"
        if kept.exists():
            self._compare(json.loads(kept.read_text(encoding="utf-8")), self._folder)
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(self._facts, indent=2) + "\n", encoding="utf-8")

    def get(self, idx: int) -> Drawn | None:
        if idx in self._there:
            return self._there[idx][1]
        part = self._part(idx)
        return self._read(part)[1] if part.exists() else None

    def put(self, idx: int, label: int, drawn: Drawn) -> None:
        """Whole or not at all. What is there already stays."""
        part = self._part(idx)
        if idx in self._there or part.exists():
            return
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            truth=label,
            plain=drawn.plain,
            pilot=drawn.pilot,
            votes=drawn.votes.astype(np.int32),
            label=drawn.plan.label,
            planned=drawn.plan.level,
            weights=np.array(drawn.plan.weights),
        )
        fresh = part.with_suffix(".fresh")
        fresh.write_bytes(buffer.getvalue())
        os.replace(fresh, part)

    def finish(self) -> int:
        """Write every image's votes, in order of idx, into the file; remove the parts. Returns their number."""
        images = dict(self._there)
        for part in self._folder.glob("*.npz"):
            images[int(part.stem)] = self._read(part)
        if images:
            save_votes(self._file(images), self._path)
        shutil.rmtree(self._folder)
        return len(images)

    def _part(self, idx: int) -> Path:
        return self._folder / f"{idx}.npz"

    @staticmethod
    def _read(part: Path) -> tuple[int, Drawn]:
        with np.load(part, allow_pickle=False) as stored:
            plan = PilotPlan(int(stored["label"]), int(stored["planned"]), tuple(map(float, stored["weights"])))
            drawn = Drawn(int(stored["plain"]), stored["pilot"], stored["votes"].astype(np.int64), plan)
            return int(stored["truth"]), drawn

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
            },
            self._path,
        )
        for i, idx in enumerate(votes.idx.tolist()):
            plan = PilotPlan(int(votes.label[i]), int(votes.planned[i]), tuple(votes.weights[i].tolist()))
            drawn = Drawn(int(votes.plain[i]), votes.pilot[i], votes.votes[i].astype(np.int64), plan)
            self._there[idx] = int(votes.labels[i]), drawn

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
        )
