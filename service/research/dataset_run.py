"""What `certify dataset` does: one row for each image, asked in this process or of a service, with nothing lost."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping

from ...models.datasets import DataSet
from ..errors import DataError, DeadlineExceeded, RequestError
from .certifiers import RowCertifier, Verdict
from .policies import Policy
from .tables import ABSTAIN, Row, TableWriter

__all__ = ("certify_dataset", "run_id")


def run_id(facts: Mapping[str, object]) -> str:
    """12 hex digits of everything that a row depends on: rows with the same one belong to one table."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


async def certify_dataset(
    dataset: DataSet, certifier: RowCertifier, table: TableWriter, *, policy: Policy, run: str, jobs: int
) -> AsyncIterator[Row]:
    """Certify each image that the table lacks, in order, `jobs` at a time; each row is on disk before it is yielded."""
    labels = dataset.labels_in(certifier.classes)
    there = set(table.done.idx.tolist())
    todo = deque(position for position in range(len(dataset)) if dataset.idx[position] not in there)

    running: deque[tuple[int, asyncio.Task[tuple[Verdict, float]]]] = deque()
    try:
        while todo or running:
            while todo and len(running) < jobs:
                position = todo.popleft()
                running.append((position, asyncio.create_task(_timed(dataset, certifier, labels[position], position))))
            position, task = running.popleft()
            try:
                verdict, seconds = await task
            except BaseException:
                task.cancel()
                raise
            row = _row(dataset.idx[position], labels[position], verdict, seconds, policy=policy, run=run)
            table.append(row)
            yield row
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


async def _timed(dataset: DataSet, certifier: RowCertifier, label: int, position: int) -> tuple[Verdict, float]:
    """(verdict, seconds). A deadline before any look was complete is an abstention, as one after it is."""
    began = time.monotonic()
    idx = dataset.idx[position]
    try:
        verdict = await certifier.certify(idx, label, dataset.read(position))
    except RequestError as error:
        raise DataError(f"{dataset.name}, image {idx}: {error.detail}") from error
    except DeadlineExceeded:
        verdict = Verdict(
            predict=ABSTAIN, radius=0.0, sigma=None, plain=None, outcome="abstained", reason="deadline", samples=0
        )
    return verdict, time.monotonic() - began


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
