"""One image -> one answer, for every caller: POST /certify, `certify image` and `certify dataset` alike.

ask() and prepare() are the caller's fault or nothing: they refuse what cannot be certified, before anything is sampled.
run() is the backend's work, and ends by the deadline. What a caller adds (places and turns, rows of a table) is its
own.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from ..backends.base import Backend, BackendInfo
from ..settings import Settings
from .answers import make_answer
from .driver import CallLimits, Run, Turn, Watcher, at_once, drive
from .evidence import evidence_of
from .images import Picture, decode_image
from .plans import Plan, make_plan
from .schemas import CertifyAnswer, CertifyFields
from .seeds import SeedScope

__all__ = ("Job", "Question", "answer", "ask", "certify", "prepare", "run")

# Kept back from a deadline to make and send the answer, and for a busy loop to notice: at most a tenth of it.
_ANSWER_SECONDS = 0.03


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request's parameters, held against the bundle: everything but its image."""

    plan: Plan
    resize: bool
    evidence: bool  # keep the votes of each chunk
    info: BackendInfo
    limits: CallLimits
    arrival: float  # in time.monotonic's seconds
    deadline: float | None  # of sampling, in time.monotonic's seconds; None: none

    def arriving(self, now: float) -> Question:
        """The same, asked at another time, in time.monotonic's seconds: its deadline counts from there."""
        later = now - self.arrival
        return replace(self, arrival=now, deadline=None if self.deadline is None else self.deadline + later)

    def loop_deadline(self) -> float | None:
        """The deadline in the running event loop's time, which may count from elsewhere than time.monotonic."""
        if self.deadline is None:
            return None
        return asyncio.get_running_loop().time() + self.deadline - time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request that can be sampled. It keeps the small tensor, not the file, while it waits for its turn."""

    question: Question
    picture: Picture

    @property
    def plan(self) -> Plan:
        return self.question.plan

    def seed_of(self, key: bytes) -> Callable[[str, float], int]:
        """(purpose, sigma) -> the uint64 seed of that noise stream; 0 where nothing is drawn."""
        if self.plan.method == "deterministic":
            return lambda purpose, sigma: 0
        return partial(self.scope().seed, key)

    def scope(self) -> SeedScope:
        """What names this question's noise."""
        return self.plan.seed_scope(self.picture.sha256, self.question.info)


def ask(
    fields: CertifyFields, info: BackendInfo, settings: Settings, *, arrival: float, offline: bool = False
) -> Question:
    """Hold a request against the bundle, before its image is looked at: parameters are cheaper to refuse.

    arrival: when the request came, in time.monotonic's seconds; its deadline counts from there. offline: see
    CallLimits.of. Raises RequestError.
    """
    plan = make_plan(fields, info, max_samples_allowed=settings.max_samples)
    deadline = None
    if fields.deadline_ms is not None:
        whole = fields.deadline_ms / 1000
        deadline = arrival + whole - min(_ANSWER_SECONDS, whole / 10)
    return Question(
        plan=plan,
        resize=fields.resize,
        evidence=fields.evidence or fields.signed,
        info=info,
        limits=CallLimits.of(settings, offline=offline),
        arrival=arrival,
        deadline=deadline,
    )


def prepare(
    image: bytes,
    fields: CertifyFields,
    info: BackendInfo,
    settings: Settings,
    *,
    arrival: float,
    offline: bool = False,
) -> Job:
    """ask(), and the image decoded in this process. Blocks: call it in a thread.

    image: a PNG, JPEG or WebP file. Raises RequestError.
    """
    question = ask(fields, info, settings, arrival=arrival, offline=offline)
    picture = decode_image(image, info.input_shape, resize=fields.resize, max_pixels=settings.max_pixels)
    return Job(question=question, picture=picture)


async def run(job: Job, backend: Backend, key: bytes, turn: Turn = at_once, watch: Watcher | None = None) -> Run:
    """Sample until the answer is known or the deadline has come. key: from which all noise is derived.

    turn, watch: as for driver.drive.

    Raises DeadlineExceeded when no look was complete by the deadline, BackendUnavailable when the backend failed.
    """
    return await drive(
        backend,
        job.plan.certifier(),
        job.picture.tensor,
        sigmas=job.plan.sigmas,
        seed_of=job.seed_of(key),
        limits=job.question.limits,
        deadline=job.question.loop_deadline(),
        turn=turn,
        by_chunk=job.question.evidence,
        watch=watch,
    )


def answer(job: Job, done: Run, key: bytes, *, request_id: str) -> CertifyAnswer:
    """What the caller reads. key: run()'s. Its time is from the job's arrival until now."""
    made = make_answer(
        request_id=request_id,
        run=done,
        plan=job.plan,
        picture=job.picture,
        info=job.question.info,
        key=key,
        total_seconds=time.monotonic() - job.question.arrival,
    )
    if not job.question.evidence:
        return made
    evidence = evidence_of(job.plan, job.question.info, job.scope(), done, made, now=datetime.now(UTC))
    return made.model_copy(update={"evidence": evidence})


async def certify(
    image: bytes, fields: CertifyFields, backend: Backend, settings: Settings, key: bytes
) -> CertifyAnswer:
    """All of it, for a caller who neither queues nor leaves: the answer of POST /certify. Raises CertifyError."""
    arrival = time.monotonic()
    job = await asyncio.to_thread(prepare, image, fields, backend.info(), settings, arrival=arrival, offline=True)
    return answer(job, await run(job, backend, key), key, request_id=str(uuid.uuid4()))
