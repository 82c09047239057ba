"""Who certifies a data set's images: this process, on a backend, or a running service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..answering.certify import certify, prepare
from ..answering.plans import make_plan
from ..answering.schemas import CertifyAnswer, CertifyFields, Info
from ..answering.seeds import key_from_number
from ..backends.base import Backend
from ..client import AsyncClient
from ..errors import DataError
from ..settings import Settings
from . import policies
from .certificates import Certificates
from .fixed_budget import FixedSampler, pilot_size
from .gathered import Gathered
from .policies import Outcome, Policy
from .tables import ABSTAIN
from .votes_file_parts import VoteParts

__all__ = ("LocalCertifier", "RemoteCertifier", "RowCertifier", "Verdict")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A row without what is known beforehand."""

    predict: int  # ABSTAIN or a class
    radius: float  # certified, in the noise's norm and units of [0, 1] pixels; 0 when abstaining
    sigma: float | None  # that certifies; None when abstaining
    plain: int | None  # the class of the clean image, without a guarantee
    outcome: str  # as CertifyAnswer.outcome, or "invalid": the image cannot be used
    reason: str | None  # as CertifyAnswer.abstain_reason; of an invalid one, the code of what is wrong
    samples: int  # drawn
    seconds: float | None = None  # that it took, where asking took longer: it went along with others


class RowCertifier(Protocol):
    """Certifies one image at a time; may be called for several at once."""

    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]  # (C, H, W) of the images it certifies

    def facts(self) -> dict[str, object]:
        """Everything that its rows depend on, beside the data."""

    async def certify(self, idx: int, label: int, data: bytes) -> Verdict:
        """data: an image file, row `idx` of the data set, of class `label`. Raises CertifyError."""


class LocalCertifier:
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
        certificates: Certificates | None = None,
    ) -> None:
        """fields: with evidence where there are certificates."""
        self._certificates = certificates
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
        if self.fixed and (given := [name for name in ("radius", "deadline_ms") if getattr(fields, name) is not None]):
            raise DataError(f"{', '.join(given)}: expected none, since only --policy best without --votes stops early")
        if self.fixed and certificates is not None:
            raise DataError("certificates: expected none, since only --policy best without --votes has them")
        if self.fixed and self._plan.method == "deterministic":
            raise DataError(
                "policy, votes: expected --policy best without --votes, since splitting noise is counted to its last "
                "sample, and other policies are about noise that is drawn"
            )
        self.classes = self._info.class_names
        self.input_shape = self._info.input_shape

    def votes_facts(self) -> dict[str, object]:
        """What a file of votes depends on, beside the data: not the policy."""
        runtime, cascade = self._info.runtime, self._plan.cascade
        # Unsaid where all is Gaussian: a table or a file that was begun before there was other noise keeps its run.
        noise = {"noise": [kind for kind, _ in cascade.noise], "radius_norm": cascade.norm} if cascade.noise else {}
        return {
            "bundle": self._info.bundle_name,
            "bundle_digest": self._info.bundle_digest,
            "runtime": f"{runtime.generator} {runtime.device} {runtime.engine} {runtime.dtype}",
            **noise,
            "sigmas": list(self._plan.sigmas),
            "thresholds": list(cascade.thresholds),
            "final": cascade.final,
            "alpha": self._plan.alpha,
            "samples": self._plan.samples,
            "resize": self._fields.resize,
            "seed": self._seed,
        }

    def facts(self) -> dict[str, object]:
        facts = {
            **self.votes_facts(),
            "policy": self._policy,
            "radius": self._plan.radius,
            "norm": self._plan.norm,
            "sampling": "at each scale" if self.fixed else "in all",
        }
        if self._fields.deadline_ms is not None:  # a table that was begun without one keeps its run
            facts["deadline_ms"] = self._fields.deadline_ms
        return facts

    async def certify(self, idx: int, label: int, data: bytes) -> Verdict:
        if not self.fixed:
            answer = await certify(data, self._fields, self._backend, self._settings, self._key)
            if self._certificates is not None:
                await asyncio.to_thread(self._certificates.put, idx, answer)
            return _verdict(answer)
        sampler = await self._sampler(data)
        if self._policy == "reference" and self._votes is None:
            return self._of_outcome(*await sampler.reference())
        drawn = None if self._votes is None else self._votes.get(idx)
        if drawn is None:
            drawn = await sampler.everything()
        if self._votes is not None:
            self._votes.put(idx, label, drawn)
        counts = drawn.votes.sum(axis=1)
        outcome = policies.certify(self._policy, counts, drawn.pilot, drawn.plan, self._plan.cascade, self._plan.alpha)
        return self._of_outcome(drawn.plain, outcome)

    async def _sampler(self, data: bytes) -> FixedSampler:
        job = await asyncio.to_thread(
            prepare, data, self._fields, self._info, self._settings, arrival=time.monotonic(), offline=True
        )
        return FixedSampler(
            backend=self._backend,
            image=job.picture.tensor,
            plan=job.plan,
            seed_of=job.seed_of(self._key),
            limits=job.question.limits,
        )

    def _of_outcome(self, plain: int, outcome: Outcome) -> Verdict:
        certified = outcome.label is not None
        return Verdict(
            predict=ABSTAIN if outcome.label is None else outcome.label,
            radius=outcome.radius,
            sigma=None if outcome.level is None else self._plan.sigmas[outcome.level],
            plain=plain,
            outcome="certified" if certified else "abstained",
            reason=None if certified else "undecided",  # the finer distinction is the adaptive sampler's
            samples=outcome.visited * (pilot_size(self._plan.chunk) + self._plan.samples),
        )


class RemoteCertifier:
    """Asked of a running service, whose bundle, key and backend are its own: what is asked at once goes as a batch."""

    def __init__(
        self, client: AsyncClient, info: Info, texts: Mapping[str, str], *, certificates: Certificates | None = None
    ) -> None:
        """info: as the client's service gives it. texts: the request's fields, with evidence for certificates."""
        self._certificates = certificates
        self._client, self._info = client, info
        self._texts: dict[str, Any] = dict(texts)
        self._gathered = Gathered(client, self._texts)
        self.classes = tuple(info.bundle.classes)
        self.input_shape = info.bundle.input_shape

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, texts: Mapping[str, str], *, key: str | None = None, certificates: Certificates | None = None
    ) -> AsyncIterator[RemoteCertifier]:
        """Raises BackendUnavailable when there is no service at `url`."""
        async with AsyncClient(url, key=key) as client:
            certifier = cls(client, await client.info(), texts, certificates=certificates)
            try:
                yield certifier
            finally:
                await certifier._gathered.close()

    def facts(self) -> dict[str, object]:
        backend, bundle = self._info.backend, self._info.bundle
        noise = {"noise": list(bundle.noise), "radius_norm": "l1"} if bundle.norms == ["l1"] else {}
        return {
            **noise,
            "url": self._client.url,
            "bundle": self._info.bundle.name,
            "bundle_digest": self._info.bundle.digest,
            "runtime": f"{backend.generator} {backend.device} {backend.engine} {backend.dtype} {backend.micro_batch}",
            "seed_key": self._info.seed_key_fingerprint,
            **{name: text for name, text in self._texts.items() if name != "evidence"},  # it moves no row
            "policy": "best",
        }

    async def certify(self, idx: int, label: int, data: bytes) -> Verdict:
        answer = await self._gathered.certify(data)
        if self._certificates is not None:
            await asyncio.to_thread(self._certificates.put, idx, answer)
        return replace(_verdict(answer), seconds=answer.timing.total_seconds)


def _verdict(answer: CertifyAnswer) -> Verdict:
    return Verdict(
        predict=ABSTAIN if answer.label is None else answer.label.index,
        radius=answer.radius,
        sigma=answer.sigma,
        plain=answer.uncertified_label.index,
        outcome=answer.outcome,
        reason=answer.abstain_reason,
        samples=answer.samples_used,
    )
