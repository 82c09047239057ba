"""What `certify dataset` does: one row for each image, asked in this process or of a service, with nothing lost."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import httpx

from ...models.datasets import DataSet
from ..answering.driver import CallLimits
from ..answering.images import decode_image
from ..answering.plans import make_plan
from ..answering.schemas import CertifyAnswer, CertifyFields, Info, Problem
from ..answering.seeds import key_from_number
from ..backends.base import Backend
from ..cli.image import certify_bytes
from ..errors import BackendUnavailable, CertifyError, DataError, RequestError
from ..settings import Settings
from .fixed_budget import FixedSampler, pilot_size
from .policies import Outcome, Policy, certify
from .tables import ABSTAIN, Row, TableWriter
from .votes_file_parts import VoteParts

__all__ = ("Asker", "Here", "Said", "There", "run_id", "survey")

# How often, and how long at most between two tries, a service that is full or away is asked again.
ATTEMPTS, LONGEST_PAUSE = 12, 30.0


@dataclass(frozen=True, kw_only=True)
class Said:
    """A row without what is known beforehand."""

    predict: int  # ABSTAIN or a class
    radius: float
    sigma: float | None
    plain: int | None
    outcome: str
    reason: str | None
    samples: int


class Asker(Protocol):
    """Certifies one image at a time; may be called for several at once."""

    classes: tuple[str, ...]

    def facts(self) -> dict[str, object]:
        """Everything that its rows depend on, beside the data."""

    async def ask(self, idx: int, label: int, data: bytes) -> Said: ...


def run_id(facts: Mapping[str, object]) -> str:
    """12 hex digits of everything that a row depends on: rows with the same one belong to one table."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


async def survey(
    dataset: DataSet, asker: Asker, table: TableWriter, *, policy: Policy, run: str, jobs: int
) -> AsyncIterator[Row]:
    """Certify each image that the table lacks, in order, `jobs` at a time; each row is on disk before it is yielded."""
    labels = dataset.labels_in(asker.classes)
    there = set(table.done.idx.tolist())
    todo = deque(position for position in range(len(dataset)) if dataset.idx[position] not in there)

    async def one(position: int) -> tuple[Said, float]:
        began = time.monotonic()
        idx = dataset.idx[position]
        try:
            said = await asker.ask(idx, labels[position], dataset.read(position))
        except RequestError as error:
            raise DataError(f"{dataset.name}, image {idx}: {error.detail}") from error
        return said, time.monotonic() - began

    running: deque[tuple[int, asyncio.Task[tuple[Said, float]]]] = deque()
    try:
        while todo or running:
            while todo and len(running) < jobs:
                position = todo.popleft()
                running.append((position, asyncio.create_task(one(position))))
            position, task = running.popleft()
            try:
                said, seconds = await task
            except BaseException:
                task.cancel()
                raise
            row = Row(
                idx=dataset.idx[position],
                label=labels[position],
                predict=said.predict,
                radius=said.radius,
                seconds=seconds,
                sigma=said.sigma,
                plain=said.plain,
                outcome=said.outcome,
                reason=said.reason,
                samples=said.samples,
                policy=policy,
                run=run,
            )
            table.append(row)
            yield row
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


class Here:
    """In this process, on an open backend. Without `votes`, policy "best" is the service's own adaptive answer."""

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        fields: CertifyFields,
        *,
        policy: Policy,
        seed: int,
        votes: VoteParts | None = None,
    ) -> None:
        self._backend, self._settings, self._fields = backend, settings, fields
        self._policy: Policy = policy
        self._seed = seed
        self._key = key_from_number(seed)
        self._votes = votes
        self._info = backend.info()
        self._plan = make_plan(fields, self._info, max_samples_allowed=settings.max_samples)
        if policy == "single" and len(self._plan.sigmas) != 1:
            raise DataError(f"policy: single is for one sigma, expected --sigmas S, got {list(self._plan.sigmas)}")
        self.fixed = policy != "best" or votes is not None
        if self.fixed and fields.radius is not None:
            raise DataError("radius: expected none, since only --policy best without --votes stops at a radius")
        self.classes = self._info.class_names

    def votes_facts(self) -> dict[str, object]:
        """What a file of votes depends on, beside the data: not the policy."""
        runtime = self._info.runtime
        return {
            "bundle": self._info.bundle_name,
            "bundle_digest": self._info.bundle_digest,
            "runtime": f"{runtime.generator} {runtime.device} {runtime.engine} {runtime.dtype}",
            "sigmas": list(self._plan.sigmas),
            "thresholds": list(self._plan.thresholds),
            "final": self._plan.final,
            "alpha": self._plan.alpha,
            "samples": self._plan.samples,
            "resize": self._fields.resize,
            "seed": self._seed,
        }

    def facts(self) -> dict[str, object]:
        sampling = "at each scale" if self.fixed else "in all"
        return {
            **self.votes_facts(),
            "policy": self._policy,
            "radius": self._plan.radius,
            "norm": self._plan.norm,
            "sampling": sampling,
        }

    async def ask(self, idx: int, label: int, data: bytes) -> Said:
        if not self.fixed:
            return _said(await certify_bytes(data, self._fields, self._backend, self._settings, self._key))
        sampler = self._sampler(data)
        if self._policy == "reference" and self._votes is None:
            return self._of_outcome(*await sampler.reference())
        drawn = None if self._votes is None else self._votes.get(idx)
        if drawn is None:
            drawn = await sampler.everything()
        if self._votes is not None:
            self._votes.put(idx, label, drawn)
        counts = drawn.votes.sum(axis=1)
        outcome = certify(self._policy, counts, drawn.pilot, drawn.plan, self._plan.cascade, self._plan.alpha)
        return self._of_outcome(drawn.plain, outcome)

    def _sampler(self, data: bytes) -> FixedSampler:
        picture = decode_image(
            data, self._info.input_shape, resize=self._fields.resize, max_pixels=self._settings.max_pixels
        )
        scope = self._plan.seed_scope(picture.sha256, self._info.bundle_digest)
        return FixedSampler(
            backend=self._backend,
            image=picture.tensor,
            plan=self._plan,
            seed_of=partial(scope.seed, self._key),
            limits=CallLimits(samples=self._settings.call_samples, seconds=self._settings.call_seconds),
        )

    def _of_outcome(self, plain: int, outcome: Outcome) -> Said:
        certified = outcome.label is not None
        return Said(
            predict=ABSTAIN if outcome.label is None else outcome.label,
            radius=outcome.radius,
            sigma=None if outcome.level is None else self._plan.sigmas[outcome.level],
            plain=plain,
            outcome="certified" if certified else "abstained",
            reason=None if certified else "undecided",  # the finer distinction is the adaptive sampler's
            samples=outcome.visited * (pilot_size(self._plan.chunk) + self._plan.samples),
        )


class There:
    """Asked of a running service, whose bundle, key and backend are its own."""

    def __init__(self, client: httpx.AsyncClient, url: str, info: Info, texts: Mapping[str, str]) -> None:
        self._client, self._url, self._texts = client, url, dict(texts)
        self._info = info
        self.classes = tuple(info.bundle.classes)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, texts: Mapping[str, str]) -> AsyncIterator[There]:
        """Raises BackendUnavailable when there is no service at `url`."""
        base = url.rstrip("/")
        timeout = httpx.Timeout(None, connect=10.0)
        async with httpx.AsyncClient(timeout=timeout) as client:
            with _as_unavailable(base):
                response = await client.get(f"{base}/info")
                response.raise_for_status()
                info = Info.model_validate_json(response.content)
            yield cls(client, base, info, texts)

    def facts(self) -> dict[str, object]:
        backend = self._info.backend
        return {
            "url": self._url,
            "bundle": self._info.bundle.name,
            "bundle_digest": self._info.bundle.digest,
            "runtime": f"{backend.generator} {backend.device} {backend.engine} {backend.dtype}",
            **self._texts,
            "policy": "best",
        }

    async def ask(self, idx: int, label: int, data: bytes) -> Said:
        for attempt in range(ATTEMPTS):
            with _as_unavailable(self._url):
                response = await self._client.post(
                    f"{self._url}/certify", data=self._texts, files={"image": (f"{idx}", data)}
                )
                if response.is_success:
                    return _said(CertifyAnswer.model_validate_json(response.content))
                problem = Problem.model_validate_json(response.content)
            # draining: that replica goes away, and another one behind the same address takes its place
            passes = response.headers.get("retry-after") or problem.code in ("backend_unavailable", "draining")
            if not passes:
                raise RequestError(problem.code, problem.detail)
            wait = response.headers.get("retry-after", "")
            await asyncio.sleep(min(LONGEST_PAUSE, float(wait) if wait.isdecimal() else 2.0**attempt))
        raise BackendUnavailable(f"{self._url}: refused {ATTEMPTS} times: {problem.code}: {problem.detail}")


@contextmanager
def _as_unavailable(url: str) -> Iterator[None]:
    try:
        yield
    except CertifyError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise BackendUnavailable(f"{url}: cannot be asked: {type(exc).__name__}: {exc}") from exc
    except ValueError as exc:  # not JSON, or of another shape
        raise BackendUnavailable(f"{url}: expected the answer of a certify service, got something else") from exc


def _said(answer: CertifyAnswer) -> Said:
    return Said(
        predict=ABSTAIN if answer.label is None else answer.label.index,
        radius=answer.radius,
        sigma=answer.sigma,
        plain=answer.uncertified_label.index,
        outcome=answer.outcome,
        reason=answer.abstain_reason,
        samples=answer.samples_used,
    )
