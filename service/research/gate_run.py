"""What `certify gate` does: images in a random order, one after the other, until the gate is decided."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from ...models.datasets import DataSet
from ..core import Gate, GateVerdict, Requirement, Standing
from ..errors import DataError
from .certifiers import RowCertifier
from .dataset_run import certify_dataset
from .gate_policy import GatePolicy
from .tables import Row, TableWriter

__all__ = ("ORDER", "Drawn", "draw_images", "images_to_go", "requirements", "run_gate")

# The order's rule (docs/protocol.md, 10.3): a name never changes its order, because a table goes on by it.
ORDER = "certify-gate-order-1"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    images: DataSet  # in the order in which they are drawn
    repeated: int  # files left out because another has the same bytes


def draw_images(dataset: DataSet, contents: Sequence[str | None], *, seed: int, most: int | None) -> Drawn:
    """Each file once, in a random order, whatever order the data have: by SHA-256 of the seed and the image's number.

    contents: the data set's. most: how many at most. Equal files have equal noise, so that they are one draw.
    """

    def place(position: int) -> bytes:
        return hashlib.sha256(f"{ORDER} {seed} {dataset.idx[position]}".encode()).digest()

    seen: set[str] = set()
    kept = []
    for position in sorted(range(len(dataset)), key=place):
        content = contents[position]
        if content is not None and content in seen:
            continue
        seen |= {content} if content is not None else set()
        kept.append(position)
    return Drawn(images=dataset.chosen(kept[:most]), repeated=len(dataset) - len(kept))


def requirements(policy: GatePolicy, labels: Sequence[int], classes: Sequence[str]) -> list[Requirement]:
    """All inputs have half of the error, the named classes the other half in equal parts (docs/protocol.md, 10.2).

    labels: of the images that may be drawn, into `classes`. Raises DataError for a class that none of them has.
    """
    counts = Counter(labels)
    shares: dict[int, float] = {}
    if policy.class_at_least is not None:
        shares = dict.fromkeys(sorted(counts), policy.class_at_least)
    for name, share in policy.classes.items():
        if name not in classes:
            raise DataError(f"classes: expected some of the bundle's, {_listed(classes)}, got {name!r}")
        if classes.index(name) not in counts:
            raise DataError(f"classes: expected classes that the images have, and none of them is {name!r}")
        shares[classes.index(name)] = share
    weight = 0.5 if shares else 1.0
    overall = Requirement(group=None, at_least=policy.at_least, images=len(labels), weight=weight)
    return [
        overall,
        *(
            Requirement(group=group, at_least=share, images=counts[group], weight=weight / len(shares))
            for group, share in shares.items()
        ),
    ]


async def run_gate(
    images: DataSet,
    certifier: RowCertifier,
    table: TableWriter,
    gate: Gate,
    *,
    run: str,
    jobs: int,
    on_row: Callable[[Row], None],
    on_invalid: Callable[[int, str], None],
) -> None:
    """Go on from the table's rows until the gate is decided, or there is no image left.

    Raises DataError when the table's rows are not the first ones of this order.
    """
    done = table.done
    if done.idx.tolist() != list(images.idx[: len(done)]):
        raise DataError(f"{table.path}: expected the rows of a gate, in its order, got others; name another --out")
    outcomes = done.outcome if done.outcome is not None else ()
    for label, predict, outcome in zip(done.label.tolist(), done.predict.tolist(), outcomes, strict=True):
        if gate.verdict is GateVerdict.UNDECIDED:
            gate.observe(label, _counts(label, predict, outcome))
    if gate.verdict is not GateVerdict.UNDECIDED:
        return
    rows = certify_dataset(images, certifier, table, policy="best", run=run, jobs=jobs, on_invalid=on_invalid)
    async with aclosing(rows):
        async for row in rows:
            on_row(row)
            gate.observe(row.label, _counts(row.label, row.predict, row.outcome))
            if gate.verdict is not GateVerdict.UNDECIDED:
                break


def _counts(label: int, predict: int, outcome: str) -> bool:
    """Z: certified at the radius asked for, in the norm asked for, with the right label."""
    return predict == label and outcome == "certified"


def images_to_go(standings: Sequence[Standing]) -> int | None:
    """About how many more images would decide everything; None: no number, or nobody can say."""
    drawn = standings[0].images
    more = 0
    for each in standings:
        if each.verdict is not GateVerdict.UNDECIDED:
            continue
        if each.needed is None:
            return None
        more = max(more, math.ceil((each.needed - each.images) * drawn / each.images), 1)
    return more


def _listed(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
