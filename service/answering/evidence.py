"""All that is needed to compute a certificate again: the payload that is signed (docs/certificates.md).

Reals are decimals in quotes, so that every reader has the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.noises import laplace_b, offsets
from ..backends.base import BackendInfo
from ..core import Certifier, Counter
from ..core.results import Purpose
from .driver import Run
from .evidence_schemas import Evidence
from .plans import Plan
from .schemas import CertifyAnswer
from .seeds import PLAN, SCHEME, SeedScope

__all__ = ("VERSION", "canonical", "evidence_of", "payload_of", "votes_texts")

VERSION = "certify-certificate-1"
_Rows = NDArray[np.int64]  # (n, classes)


def evidence_of(
    plan: Plan, info: BackendInfo, scope: SeedScope, done: Run, answer: CertifyAnswer, *, now: datetime
) -> Evidence:
    """info: of what drew the votes. done: a run that kept its chunks. answer: what it came to."""
    return Evidence.model_validate(_payload(plan, info, scope, done, answer, now))


def payload_of(evidence: Evidence) -> bytes:
    """What is signed: RFC 8785's form."""
    return canonical(evidence.model_dump(mode="json", exclude_none=False))


def _payload(
    plan: Plan, info: BackendInfo, scope: SeedScope, done: Run, answer: CertifyAnswer, now: datetime
) -> dict[str, Any]:
    radius = {"l2": "|x' - x|_2", "l1": "|x' - x|_1"}[answer.radius_norm]
    return {
        "version": VERSION,
        "id": answer.id,
        "issued_at": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "statement": {
            "outcome": answer.outcome,
            "label": None if answer.label is None else answer.label.model_dump(),
            "radius": _decimal(answer.radius),
            "radius_linf": None if answer.radius_linf is None else _decimal(answer.radius_linf),
            "norm": answer.radius_norm,
            "alpha": _decimal(answer.alpha),
            "method": answer.method,
            "speaks_of": f"8-bit image x' with {radius} < {_decimal(answer.radius)}, pixels in [0, 1]",
        },
        "function": {
            "bundle": {**answer.bundle.model_dump(), "version": info.bundle_version},
            "classes": plan.classes,
            "levels": [
                {"sigma": _decimal(sigma), "threshold": _decimal(threshold), **_noise(kind, sigma)}
                for sigma, threshold, (kind, _) in zip(
                    plan.sigmas, plan.cascade.thresholds, plan.cascade.noises, strict=True
                )
            ],
            "final": plan.cascade.final,
            "runtime": {**answer.runtime.model_dump(), "libraries": dict(info.libraries)},
        },
        "input": {
            "sha256": answer.input.sha256,
            "shape": list(answer.input.shape),
            "encoding": "float32, little-endian, (C, H, W), pixels k/255",
            "resized": answer.input.resized,
            "turned": answer.input.turned,
        },
        "request": {
            "samples": plan.samples,
            "radius": None if plan.radius is None else _decimal(plan.radius),
            "norm": plan.norm,
            "alpha": _decimal(plan.alpha),
            "plan": PLAN.decode(),
            "cut_short": done.timed_out,
        },
        "counts": _counts(plan, done),
        "noise": {
            "scheme": SCHEME.decode(),
            "key": answer.seed_key_fingerprint,
            "scope_sha256": scope.sha256,
        },
    }


def _noise(kind: str, sigma: float) -> dict[str, Any]:
    """A level's noise and the constant of its psi: exact, as it is drawn (models/noises.py)."""
    return {
        "noise": kind,
        "b": format(laplace_b(sigma).normalize(), "f") if kind == "laplace" else None,
        "grey_steps": offsets(sigma) if kind in ("uniform", "splitting") else None,
    }


def _counts(plan: Plan, done: Run) -> dict[str, Any]:
    assert done.chunks is not None
    machine, plans = done.certifier, _plans(done.certifier)
    rows = [
        part
        for k, (_, looks, taken, pilot) in enumerate(plans)
        for part in _rows(done.chunks.get, k, looks[:taken], pilot, plan)
    ]
    texts = iter(votes_texts(np.concatenate(rows)))  # at once: numpy's time here is in the calls
    parts = iter([list(islice(texts, len(part))) for part in rows])
    levels = [_level(weight, looks, *islice(parts, 3)) for weight, looks, _, _ in plans]
    label = machine.label if isinstance(machine, Certifier) else done.result.label
    return {"label": label, "chunk": plan.chunk, "levels": levels}


def _plans(machine: Certifier | Counter) -> Sequence[tuple[float, Sequence[tuple[int, float]], int, int]]:
    """(weight, looks as (samples, share), how many were taken, pilot samples) of each level."""
    if isinstance(machine, Counter):
        return [(0.0, [(whole, 0.0)], int(counted), 0) for whole, counted in machine.progress()]
    return machine.planned()


def _rows(
    drawn: Callable[[tuple[int, Purpose], _Rows], _Rows],
    k: int,
    looks: Sequence[tuple[int, float]],
    pilot: int,
    plan: Plan,
) -> tuple[_Rows, _Rows, _Rows]:
    """Votes of a level's pilot by chunk, at each look that was taken, and by chunk up to the last of them: what was
    drawn for a look that the deadline cut short is not of the certificate.
    """
    none = np.zeros((0, plan.classes), dtype=np.int64)
    chunks = drawn((k, "estimation"), none)[: -(-looks[-1][0] // plan.chunk) if looks else 0]
    so_far = np.cumsum(chunks, axis=0)
    at = np.searchsorted(so_far.sum(axis=1), [samples for samples, _ in looks])
    return drawn((k, "pilot"), none)[: pilot // plan.chunk], so_far[at], chunks


def _level(
    weight: float, looks: Sequence[tuple[int, float]], pilot: list[str], votes: list[str], chunks: list[str]
) -> dict[str, Any]:
    """votes: at the looks that were taken."""
    return {
        "weight": _decimal(weight),
        "pilot": pilot,
        "looks": [
            {"samples": samples, "share": _decimal(share), "votes": at}
            for (samples, share), at in zip_longest(looks, votes)
        ],
        "taken": len(votes),
        "chunks": chunks,
    }


def votes_texts(rows: _Rows) -> list[str]:
    """(n, classes) -> "3:31 8:1" of each row: the classes that have votes, ascending."""
    row, label = np.nonzero(rows)
    base = int(rows.max(initial=0)) + 1
    pairs, which = np.unique(label * base + rows[row, label], return_inverse=True)  # a few, in many places
    texts = [f"{pair // base}:{pair % base}" for pair in pairs.tolist()]
    parts = [texts[i] for i in which.tolist()]
    ends = np.searchsorted(row, np.arange(len(rows)), side="right").tolist()
    return [" ".join(parts[first:end]) for first, end in zip([0, *ends], ends, strict=False)]


def _decimal(value: float) -> str:
    """The shortest decimal that is this float64, without an exponent."""
    text = repr(float(value))
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def canonical(value: object) -> bytes:
    """RFC 8785's form, for values whose numbers are whole."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
