"""Whether a certificate holds: read it, check who signed it, and compute again what its counts prove.

    certify verify FILE... [--key KEYS]        what prints this; docs/certificates.md has the format, field by field

One file, to be read in ten minutes; envelope.py beside it reads JSON and signatures. It shares no code with the service
that writes certificates: its bounds and its cascade are its own. It needs SciPy for two special functions, and asks
nobody.

What arithmetic cannot show, and `--replay` can: that the counts are those of the noise that the certificate names, and
that label, weights and looks were fixed before the counts that they are about.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from .envelope import PAYLOAD_TYPE, Refused, Unreadable, canonical, opened, signers

__all__ = ("PAYLOAD_TYPE", "Check", "Refused", "Unreadable", "canonical", "checks", "opened", "signers")

VERSION = "certify-certificate-1"
PLANS = ("certify-plan-2",)  # ways to cut a stream into looks for which Theorems 3 and 4 have been proved
ENCODING = "float32, little-endian, (C, H, W), pixels k/255"
# Float64 in SciPy's functions is good to 1e-13 here; a service gives away 1e-9 before it rounds a radius down.
TOLERANCE = 1e-10
# Weights are written as the service's float64 has them, and may miss their sum by some ulp.
WEIGHT_SLACK = Fraction(1, 10**12)

_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,30})?")
_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was found."""

    name: str
    holds: bool
    found: str


def checks(payload: Mapping[str, Any], written: bytes) -> Iterator[Check]:
    """Each check of a payload in turn; the first that does not hold is the last. Raises Unreadable.

    written: the payload's own bytes.
    """
    steps: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("form", lambda p: _form(p, written)),
        ("function", _function),
        ("error", _error),
        ("counts", _counts),
        ("radius", _radius),
        ("statement", _statement),
    )
    for name, step in steps:
        try:
            yield Check(name, True, step(payload))
        except Refused as error:
            yield Check(name, False, str(error))
            return
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
            if isinstance(error, Unreadable):
                raise
            raise Unreadable(f"{name}: a field is missing or of another type: {error!r}") from None


FIELDS = {
    "": {"version", "id", "issued_at", "statement", "function", "input", "request", "counts", "noise"},
    "statement": {"outcome", "label", "radius", "radius_linf", "norm", "alpha", "method", "speaks_of"},
    "function": {"bundle", "classes", "levels", "final", "runtime"},
    "input": {"sha256", "shape", "encoding", "resized", "turned"},
    "request": {"samples", "radius", "norm", "alpha", "plan", "cut_short"},
    "function.levels": {"sigma", "threshold", "noise", "b", "grey_steps"},
    "counts": {"label", "chunk", "levels"},
    "counts.levels": {"weight", "pilot", "looks", "taken", "chunks"},
    "looks": {"samples", "share", "votes"},
    "noise": {"scheme", "key", "scope_sha256"},
}


def _form(payload: Mapping[str, Any], written: bytes) -> str:
    if payload.get("version") != VERSION:
        raise Unreadable(f"version: expected {VERSION}, got {payload.get('version')!r}")
    parts = [
        (name, payload[name] if name else payload) for name in ("", *(FIELDS[""] - {"version", "id", "issued_at"}))
    ]
    parts += [("function.levels", level) for level in payload["function"]["levels"]]
    for level in payload["counts"]["levels"]:
        parts += [("counts.levels", level), *(("looks", look) for look in level["looks"])]
    for name, part in parts:
        if set(part) != FIELDS[name]:
            odd = ", ".join(sorted(set(part) ^ FIELDS[name]))
            raise Unreadable(f"{name or 'payload'}: fields that are missing or unknown: {odd}")
    if canonical(payload) != written:
        raise Refused("the payload is not in canonical form (RFC 8785)")
    if not _TIME.fullmatch(payload["issued_at"]) or not payload["id"]:
        raise Refused(f"issued_at: expected a time as 2026-11-26T12:00:00Z, got {payload['issued_at']!r}")
    if payload["request"]["plan"] not in PLANS:
        raise Refused(f"request.plan: expected one of {', '.join(PLANS)}, got {payload['request']['plan']!r}")
    return f"{VERSION}, {payload['id']}, issued at {payload['issued_at']}"


def _function(payload: Mapping[str, Any]) -> str:
    function, given = payload["function"], payload["input"]
    levels = function["levels"]
    scales = [_decimal("sigma", level["sigma"]) for level in levels]
    if not levels or scales[0] <= 0 or any(a >= b for a, b in zip(scales, scales[1:], strict=False)):
        raise Refused("function.levels: expected sigmas > 0 in ascending order")
    for level in levels:
        if not Fraction(1, 2) <= _decimal("threshold", level["threshold"]) < 1:
            raise Refused(f"threshold: expected at least 0.5 and below 1, got {level['threshold']}")
        _factor(level)
    if function["final"] not in ("plurality", "threshold"):
        raise Refused(f"function.final: expected plurality or threshold, got {function['final']!r}")
    if _whole("function.classes", function["classes"]) < 2:
        raise Refused("function.classes: expected at least 2")
    digests = (function["bundle"]["digest"].removeprefix("sha256:"), given["sha256"])
    if not all(_HEX.fullmatch(digest) for digest in digests):
        raise Refused("expected SHA-256 digests of bundle and input in 64 hex digits")
    if len(given["shape"]) != 3 or min(_whole("input.shape", side) for side in given["shape"]) < 1:
        raise Refused(f"input.shape: expected (C, H, W), got {given['shape']}")
    return f"{function['bundle']['name']} {function['bundle']['digest']}, input {given['sha256']}"


def _error(payload: Mapping[str, Any]) -> str:
    """Weights sum to 1 over the levels, and the looks' shares to 1 at each: then all bounds together spend alpha."""
    statement = payload["statement"]
    alpha = _decimal("alpha", statement["alpha"])
    if statement["alpha"] != payload["request"]["alpha"] or not 0 <= alpha <= Fraction(1, 10):
        raise Refused(f"alpha: expected the requested one, at most 0.1, got {statement['alpha']}")
    levels, described = payload["counts"]["levels"], payload["function"]["levels"]
    if len(levels) != len(described):
        raise Refused("counts.levels: expected one for each of function.levels")
    if statement["method"] not in ("sampled", "deterministic"):
        raise Refused(f"method: expected sampled or deterministic, got {statement['method']!r}")
    if (alpha == 0) != (statement["method"] == "deterministic"):
        raise Refused(f"alpha: expected 0 exactly where all samples were counted, got {statement['alpha']}")
    if alpha == 0:
        return _all_counted(levels, described)
    if sum(_decimal("weight", level["weight"]) for level in levels) > 1 + WEIGHT_SLACK:
        raise Refused("counts: the levels' weights sum to more than 1")
    for level in levels:
        sizes = [_whole("look.samples", look["samples"]) for look in level["looks"]]
        if sizes != sorted(set(sizes)) or (sizes and sizes[0] < 1):
            raise Refused(f"counts: expected looks at ascending numbers of samples, got {sizes}")
        if sum(_decimal("share", look["share"]) for look in level["looks"]) > 1 + WEIGHT_SLACK:
            raise Refused("counts: the shares of a level's looks sum to more than 1")
    return (
        f"weights and shares sum to 1 at most: all bounds together fail with probability {statement['alpha']} at most"
    )


def _all_counted(levels: Sequence[Any], described: Sequence[Any]) -> str:
    """Splitting noise has as many offsets as its cell has grey steps (Levine and Feizi 2021): each was asked once."""
    for level, noise in zip(levels, described, strict=True):
        whole = [noise["grey_steps"]] if noise["noise"] == "splitting" else None
        if [look["samples"] for look in level["looks"][: level["taken"]]] != whole or level["pilot"]:
            raise Refused("counts: expected all offsets of splitting noise at each level, and nothing else")
    return "every sample was counted: nothing is left to chance"


def _counts(payload: Mapping[str, Any]) -> str:
    """Each look is at the first chunks of its stream, and its votes are theirs."""
    counts, request = payload["counts"], payload["request"]
    chunk, classes = _whole("counts.chunk", counts["chunk"]), payload["function"]["classes"]
    used = 0
    for level in counts["levels"]:
        streams = {name: [_votes(text, classes) for text in level[name]] for name in ("pilot", "chunks")}
        for name, rows in streams.items():
            sizes = {sum(row.values()) for row in rows[:-1]} | {chunk}
            last = sum(rows[-1].values()) if rows else chunk
            if sizes != {chunk} or last > chunk or (last < chunk and payload["statement"]["method"] == "sampled"):
                raise Refused(f"counts: expected {chunk} votes in each chunk ({name})")
        total, row = 0, iter(streams["chunks"])
        so_far: dict[int, int] = {}
        for number, look in enumerate(level["looks"]):
            if (look["votes"] is not None) != (number < _whole("taken", level["taken"])):
                raise Refused("counts: expected votes at the looks that were taken, and at no other")
            if look["votes"] is None:
                continue
            while total < look["samples"] and (part := next(row, None)) is not None:
                total += sum(part.values())
                for label, votes in part.items():
                    so_far[label] = so_far.get(label, 0) + votes
            if total != look["samples"] or _votes(look["votes"], classes) != so_far:
                raise Refused(f"counts: the look at {look['samples']} samples is not what its chunks sum to")
        if next(row, None) is not None:
            raise Refused("counts: expected no chunk beyond the last look that was taken")
        used += sum(sum(part.values()) for rows in streams.values() for part in rows)
    if used > _whole("request.samples", request["samples"]):
        raise Refused(f"counts: expected at most the {request['samples']} samples that were asked for, got {used}")
    return f"{used} votes in chunks of {chunk}, looks at their sums"


def _radius(payload: Mapping[str, Any]) -> str:
    """Theorem A's radius from bounds computed anew is at least the one that is stated."""
    statement = payload["statement"]
    stated, norm = float(_decimal("radius", statement["radius"])), statement["norm"]
    kinds = {level["noise"] for level in payload["function"]["levels"]}
    if norm not in ("l1", "l2") or (norm == "l2" and kinds != {"gaussian"}):
        raise Refused(f"norm: expected l2, or l1 where a noise is not Gaussian, got {norm!r}")
    if stated == 0:
        return "none is stated"
    label = payload["counts"]["label"]
    if statement["label"] is None or label != statement["label"]["index"]:
        raise Refused("label: expected the one that the counts were divided for")
    proved = _proved(payload, label)
    if stated > proved + TOLERANCE:
        raise Refused(f"radius: {statement['radius']} is stated, and the counts prove {proved:.9f}")
    shape = payload["input"]["shape"]
    linf = statement["radius_linf"]
    if (linf is None) != (norm == "l1"):
        raise Refused("radius_linf: expected none exactly where the radius is in L1")
    if (
        linf is not None
        and _decimal("radius_linf", linf) ** 2 * math.prod(shape) > _decimal("radius", statement["radius"]) ** 2
    ):
        raise Refused(f"radius_linf: {linf} does not follow from {statement['radius']}")
    return f"{statement['radius']} is stated, and the counts prove {proved:.9f} ({norm})"


def _proved(payload: Mapping[str, Any], label: int) -> float:
    function, counts = payload["function"], payload["counts"]
    alpha, plural = _decimal("alpha", payload["statement"]["alpha"]), function["final"] == "plurality"
    weights = [_decimal("weight", level["weight"]) for level in counts["levels"]]
    best, ceiling = 0.0, math.inf
    bounds = []
    for k, level in enumerate(counts["levels"]):
        # A lower bound pays its level's weight, an upper bound those of all finer levels (Theorem 3); where both are
        # in one term, at the finest level by plurality, each pays half.
        split = (weights[0] / 2, weights[0] / 2) if k == 0 and plural else (weights[k], sum(weights[:k], Fraction(0)))
        lower, upper = 0.0, 1.0
        for look in level["looks"][: level["taken"]]:
            votes = _votes(look["votes"], function["classes"])
            share, n = alpha * _decimal("share", look["share"]), look["samples"]
            mine, rival = votes.get(label, 0), max((v for c, v in votes.items() if c != label), default=0)
            if payload["statement"]["method"] == "deterministic":
                lower, upper = mine / n, rival / n
                continue
            low, up = _look(mine, rival, n, float(split[0] * share), float(split[1] * share))
            lower, upper = max(lower, low), min(upper, up)
        bounds.append((lower, upper))
    for k in reversed(range(len(bounds))):
        psi, (lower, upper) = _psi(function["levels"][k]), bounds[k]
        threshold = float(_decimal("threshold", function["levels"][k]["threshold"]))
        if k == 0 and plural:
            own = (psi(lower) - psi(upper)) / 2 if lower > upper else None
        else:
            own = psi(lower) - psi(threshold) if lower > threshold else None
        if own is not None:
            best = max(best, min(own, ceiling))
        if upper >= threshold:
            break
        ceiling = min(ceiling, psi(threshold) - psi(upper))
    return best


def _look(mine: int, rival: int, n: int, error_lower: float, error_upper: float) -> tuple[float, float]:
    """Clopper and Pearson (1934): (lower bound of the label's probability, upper bound of every other's)."""
    from scipy.special import betaincinv

    lower = 0.0
    if mine and error_lower:
        lower = error_lower ** (1 / n) if mine == n else float(betaincinv(mine, n - mine + 1, error_lower))
    upper = 1.0
    if rival < n and error_upper:
        upper = 1 - error_upper ** (1 / n) if rival == 0 else 1 - float(betaincinv(n - rival, rival + 1, error_upper))
    return lower, min(upper, 1 - lower)


def _factor(level: Mapping[str, Any]) -> float:
    """The constant of a level's noise: sigma, Laplace's b, or the width 2L in pixels."""
    match level["noise"]:
        case "gaussian":
            return float(_decimal("sigma", level["sigma"]))
        case "laplace":
            return float(_decimal("b", level["b"]))
        case "uniform" | "splitting":
            return _whole("grey_steps", level["grey_steps"]) / 255
    raise Refused(f"noise: expected gaussian, laplace, uniform or splitting, got {level['noise']!r}")


def _psi(level: Mapping[str, Any]) -> Callable[[float], float]:
    """What moves no faster than the image does, in the noise's norm (docs/protocol.md, 2.3)."""
    from scipy.special import ndtri

    factor = _factor(level)
    if level["noise"] == "gaussian":
        return lambda p: factor * float(ndtri(p))
    if level["noise"] == "laplace":
        return lambda p: factor * (math.log(2 * p) if p <= 0.5 else -math.log(2 * (1 - p)))
    return lambda p: factor * p


def _statement(payload: Mapping[str, Any]) -> str:
    statement, request = payload["statement"], payload["request"]
    outcome, label = statement["outcome"], statement["label"]
    norm, radius = statement["norm"], statement["radius"]
    said = f"8-bit image x' with |x' - x|_{norm[1:]} < {radius}, pixels in [0, 1]"
    if statement["speaks_of"] != said or payload["input"]["encoding"] != ENCODING:
        raise Refused(f"speaks_of, encoding: expected {said!r} and {ENCODING!r}")
    certified = _decimal("radius", statement["radius"]) > 0
    if certified != (label is not None) or certified != (outcome != "abstained"):
        raise Refused("statement: expected a label exactly where a radius is stated")
    if not certified:
        return "nothing is certified"
    if not 0 <= _whole("label.index", label["index"]) < payload["function"]["classes"]:
        raise Refused(f"label: expected one of {payload['function']['classes']} classes, got {label['index']}")
    if request["radius"] is not None:
        printed = statement["radius_linf" if request["norm"] == "linf" else "radius"]
        met = _decimal("radius", printed) >= _decimal("request.radius", request["radius"])
        if met != (outcome == "certified"):
            raise Refused(f"outcome: {outcome} does not follow from {printed} where {request['radius']} was asked for")
    elif outcome != "certified":
        raise Refused(f"outcome: expected certified, since no radius was asked for, got {outcome}")
    return f"{label['name']}, for every {statement['speaks_of']}"


def _decimal(name: str, text: object) -> Fraction:
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise Refused(f"{name}: expected a plain decimal in quotes, got {str(text)[:40]!r}")
    return Fraction(Decimal(text))


def _whole(name: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise Refused(f"{name}: expected a whole number >= 0, got {value!r}")
    return value


def _votes(text: Any, classes: int) -> dict[int, int]:
    """ "3:31 8:1" -> {3: 31, 8: 1}: classes ascend, and have votes."""
    votes: dict[int, int] = {}
    for part in text.split(" ") if text else ():
        if not re.fullmatch(r"(0|[1-9][0-9]{0,8}):[1-9][0-9]{0,8}", part):
            raise Refused(f"votes: expected CLASS:VOTES with spaces between, got {text[:40]!r}")
        label, count = map(int, part.split(":"))
        if label >= classes or (votes and label <= max(votes)):
            raise Refused(f"votes: expected ascending classes below {classes}, got {text[:40]!r}")
        votes[label] = count
    return votes
