"""What `certify dataset` does: one row for each image, asked in this process or of a service, with nothing lost.

An image that cannot be used is a row too: the field counts it as an abstention, and so do curves.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping

from ...models.datasets import DataSet
from ..errors import DataError, DeadlineExceeded, RequestError
from .certifiers import RowCertifier, Verdict
from .policies import Policy
from .tables import ABSTAIN, Row, TableWriter

__all__ = ("OF_ONE_IMAGE", "certify_dataset", "run_id")

# What may be wrong with one image alone. Another size than the bundle's is a matter of the whole set.
OF_ONE_IMAGE = frozenset(
    ("unsupported_format", "image_undecodable", "image_too_many_pixels", "image_multiframe", "body_too_large")
)
UNREADABLE = "image_unreadable"  # not even the file's bytes can be had


_Timed = tuple[Verdict, str | None, float]  # with what is wrong with the image, and seconds


def run_id(facts: Mapping[str, object]) -> str:
    """12 hex digits of everything that a row depends on: rows with the same one belong to one table."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


async def certify_dataset(
    dataset: DataSet,
    certifier: RowCertifier,
    table: TableWriter,
    *,
    policy: Policy,
    run: str,
    jobs: int,
    on_invalid: Callable[[int, str], None],
) -> AsyncGenerator[Row, None]:
    """Certify each image that the table lacks, in order, `jobs` at a time; each row is on disk before it is yielded.

    on_invalid: called with the idx of an image that cannot be used and what is wrong, before its row is written.
    """
    labels = dataset.labels_in(certifier.classes)
    there = set(table.done.idx.tolist())
    todo = deque(position for position in range(len(dataset)) if dataset.idx[position] not in there)

    running: deque[tuple[int, asyncio.Task[_Timed]]] = deque()
    try:
        while todo or running:
            while todo and len(running) < jobs:
                position = todo.popleft()
                running.append((position, asyncio.create_task(_timed(dataset, certifier, labels[position], position))))
            position, task = running.popleft()
            try:
                verdict, wrong, seconds = await task
            except BaseException:
                task.cancel()
                raise
            if wrong is not None:
                on_invalid(dataset.idx[position], wrong)
            row = _row(dataset.idx[position], labels[position], verdict, seconds, policy=policy, run=run)
            table.append(row)
            yield row
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


async def _timed(dataset: DataSet, certifier: RowCertifier, label: int, position: int) -> _Timed:
    """A deadline before any look was complete is an abstention, as one after it is."""
    began = time.monotonic()
    idx, wrong = dataset.idx[position], None
    try:
        data = dataset.read(position)
    except (DataError, RequestError) as error:
        code = error.code if isinstance(error, RequestError) else UNREADABLE
        return _without("invalid", code), str(error), time.monotonic() - began
    try:
        verdict = await certifier.certify(idx, label, data)
    except RequestError as error:
        if error.code not in OF_ONE_IMAGE:
            raise DataError(f"{dataset.name}, image {idx}: {error.detail}") from error
        verdict, wrong = _without("invalid", error.code), error.detail
    except DeadlineExceeded:
        verdict = _without("abstained", "deadline")
    return verdict, wrong, time.monotonic() - began


def _without(outcome: str, reason: str) -> Verdict:
    """Nothing was drawn."""
    return Verdict(predict=ABSTAIN, radius=0.0, sigma=None, plain=None, outcome=outcome, reason=reason, samples=0)


def _row(idx: int, label: int, verdict: Verdict, seconds: float, *, policy: Policy, run: str) -> Row:
    return Row(
        idx=idx,
        label=label,
        predict=verdict.predict,
        radius=verdict.radius,
        seconds=seconds,
        sigma=verdict.sigma,
        plain=verdict.plain,
        outcome=verdict.outcome,
        reason=verdict.reason,
        samples=verdict.samples,
        policy=policy,
        run=run,
    )
