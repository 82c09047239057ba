"""Answers kept to be given again. An equal question has an equal answer (seeds.py), so that nobody can tell a kept one
by what it says; `timing.cached` says it.

Each is kept for one client: that somebody else has asked about this very image is nobody's business.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable

from .certify import Job
from .driver import Run
from .schemas import AnswerTiming, CertifyAnswer

__all__ = ("KeptAnswers", "again")


class KeptAnswers:
    """The last `most` answers, some KiB each; 0 keeps none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: OrderedDict[Hashable, CertifyAnswer] = OrderedDict()

    def find(self, job: Job, client: str) -> CertifyAnswer | None:
        """What this client was answered to the same question. A deadline is no part of it: the answer is there."""
        if not self._most or job.question.evidence:
            return None
        key = _key(job, client)
        if (answer := self._answers.get(key)) is not None:
            self._answers.move_to_end(key)
        return answer

    def keep(self, job: Job, client: str, done: Run, answer: CertifyAnswer) -> None:
        """Not what a deadline cut short: more time would answer better. Nor evidence: it may take megabytes."""
        if not self._most or job.question.evidence or done.timed_out:
            return
        self._answers[_key(job, client)] = answer
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)


def again(job: Job, answer: CertifyAnswer, *, request_id: str) -> CertifyAnswer:
    """The kept answer to another request."""
    total = round(time.monotonic() - job.question.arrival, 6)
    timing = AnswerTiming(total_seconds=total, sampling_seconds=0.0, cached=True)
    return answer.model_copy(update={"id": request_id, "timing": timing})


def _key(job: Job, client: str) -> Hashable:
    """The scope of its noise, and what an answer says beside it: a radius in another norm may mean the same."""
    plan, picture = job.plan, job.picture
    return client, job.scope(), plan.method, plan.norm, plan.radius, picture.resized, picture.turned
