"""Whether a certificate holds: read it, check who signed it, and compute again what its counts prove.

    certify verify FILE... [--key KEYS]        what prints this; docs/certificates.md has the format, field by field

To be read in ten minutes; beside it envelope.py reads JSON and signatures, and form.py says what the fields are. They
share no code with the service that writes certificates: bounds and cascade are their own. SciPy is needed for two
special functions, and nobody is asked.

What arithmetic cannot show, and `--replay` can: that the counts are those of the noise that the certificate names, and
that label, weights and looks were fixed before the counts that they are about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .envelope import LARGEST, PAYLOAD_TYPE, Refused, Unreadable, canonical, opened, signers
from .form import decimal, moment, shaped, votes_of

__all__ = (
    "LARGEST", "PAYLOAD_TYPE", "Check", "Refused", "Unreadable", "canonical", "checks", "moment", "opened", "signers",
)  # fmt: skip

VERSION = "certify-certificate-1"
PLANS = ("certify-plan-2",)  # ways to cut a stream into looks for which Theorems 3 and 4 have been proved
ENCODING = "float32, little-endian, (C, H, W), pixels k/255"
# Taken off each bound and off the radius, so that float64 errs on the safe side: SciPy's functions are good to 1e-14.
# A service gives away ten times as much, so that nothing of a service is lost.
BOUND_MARGIN, RADIUS_MARGIN = 1e-12, 1e-10
ULPS = 1e-15  # of 1 - p, which rounds to nearest
RADIUS_STEPS = 10**6  # in 1: the digits that an answer has
MOST_SAMPLES = 10**8  # of billions, float64 is too coarse between a bound and 1
MOST_CLASSES = 10**6  # more than anybody has; a reader makes room for each
# Weights are written as the service's float64 has them, and may miss their sum by some ulp.
WEIGHT_SLACK = Fraction(1, 10**12)


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
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
            if isinstance(error, Unreadable):
                raise
            raise Unreadable(f"{name}: a field is missing or of another type: {error!r}") from None


def _form(payload: Mapping[str, Any], written: bytes) -> str:
    if payload.get("version") != VERSION:
        raise Unreadable(f"version: expected {VERSION}, got {payload.get('version')!r}")
    shaped("", payload)
    if canonical(payload) != written:
        raise Refused("the payload is not in canonical form (RFC 8785)")
    if payload["request"]["plan"] not in PLANS:
        raise Refused(f"request.plan: expected one of {', '.join(PLANS)}, got {payload['request']['plan']!r}")
    return f"{VERSION}, {payload['id']}, issued at {payload['issued_at']}"


def _function(payload: Mapping[str, Any]) -> str:
    function, given = payload["function"], payload["input"]
    levels = function["levels"]
    scales = [decimal("sigma", level["sigma"]) for level in levels]
    if not levels or scales[0] <= 0 or any(a >= b for a, b in zip(scales, scales[1:], strict=False)):
        raise Refused("function.levels: expected sigmas > 0 in ascending order")
    for level in levels:
        if not Fraction(1, 2) <= decimal("threshold", level["threshold"]) < 1:
            raise Refused(f"threshold: expected at least 0.5 and below 1, got {level['threshold']}")
        _factor(level)
    if function["final"] not in ("plurality", "threshold"):
        raise Refused(f"function.final: expected plurality or threshold, got {function['final']!r}")
    if not 2 <= function["classes"] <= MOST_CLASSES:
        raise Refused(f"function.classes: expected 2 to {MOST_CLASSES}, got {function['classes']}")
    if len(given["shape"]) != 3 or min(given["shape"]) < 1:
        raise Refused(f"input.shape: expected (C, H, W), got {given['shape']}")
    return f"{function['bundle']['name']} {function['bundle']['digest']}, input {given['sha256']}"


def _error(payload: Mapping[str, Any]) -> str:
    """Weights sum to 1 over the levels, and the looks' shares to 1 at each: then all bounds together spend alpha."""
    statement = payload["statement"]
    alpha = decimal("alpha", statement["alpha"])
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
    if any(level["noise"] == "splitting" for level in described):
        raise Refused("noise: expected no splitting among what was drawn: its samples are numbered, and only counted")
    if sum(decimal("weight", level["weight"]) for level in levels) > 1 + WEIGHT_SLACK:
        raise Refused("counts: the levels' weights sum to more than 1")
    for level in levels:
        sizes = [look["samples"] for look in level["looks"]]
        if sizes != sorted(set(sizes)) or (sizes and sizes[0] < 1):
            raise Refused(f"counts: expected looks at ascending numbers of samples, got {str(sizes)[:200]}")
        if sum(decimal("share", look["share"]) for look in level["looks"]) > 1 + WEIGHT_SLACK:
            raise Refused("counts: the shares of a level's looks sum to more than 1")
    return (
        f"weights and shares sum to 1 at most: all bounds together fail with probability {statement['alpha']} at most"
    )


def _all_counted(levels: Sequence[Any], described: Sequence[Any]) -> str:
    """Splitting noise has as many offsets as its cell has grey steps (Levine and Feizi 2021): each was asked once."""
    for level, noise in zip(levels, described, strict=True):
        whole = [noise["grey_steps"]] if noise["noise"] == "splitting" else None
        if [look["samples"] for look in level["looks"]] != whole or level["taken"] != 1 or level["pilot"]:
            raise Refused("counts: expected all offsets of splitting noise at each level, and nothing else")
        if {level["weight"], *(look["share"] for look in level["looks"])} != {"0"}:
            raise Refused("counts: expected weights and shares of 0, since there is no alpha to divide")
    return "every sample was counted: nothing is left to chance"


def _counts(payload: Mapping[str, Any]) -> str:
    """Each look is at the first chunks of its stream, and its votes are theirs."""
    counts, request = payload["counts"], payload["request"]
    chunk, classes = counts["chunk"], payload["function"]["classes"]
    used = 0
    sampled = payload["statement"]["method"] == "sampled"
    if chunk < 1 or (sampled and request["samples"] % chunk):
        raise Refused(f"request.samples: expected whole chunks of at least 1, got {request['samples']} of {chunk}")
    for level in counts["levels"]:
        if level["taken"] > len(level["looks"]):
            raise Refused(f"counts.taken: expected at most the {len(level['looks'])} looks, got {level['taken']}")
        streams = {name: [votes_of(text, classes) for text in level[name]] for name in ("pilot", "chunks")}
        for name, rows in streams.items():
            sizes = {sum(row.values()) for row in rows}
            if sizes - {chunk} if sampled else 0 in sizes:  # what is counted comes in pieces of any size
                raise Refused(f"counts: expected {chunk} votes in each chunk ({name})")
        total, row = 0, iter(streams["chunks"])
        so_far: dict[int, int] = {}
        for number, look in enumerate(level["looks"]):
            if (look["votes"] is not None) != (number < level["taken"]):
                raise Refused("counts: expected votes at the looks that were taken, and at no other")
            if look["votes"] is None:
                continue
            while total < look["samples"] and (part := next(row, None)) is not None:
                total += sum(part.values())
                for label, votes in part.items():
                    so_far[label] = so_far.get(label, 0) + votes
            if total != look["samples"] or votes_of(look["votes"], classes) != so_far:
                raise Refused(f"counts: the look at {look['samples']} samples is not what its chunks sum to")
        if next(row, None) is not None:
            raise Refused("counts: expected no chunk beyond the last look that was taken")
        used += sum(sum(part.values()) for rows in streams.values() for part in rows)
    if request["samples"] > MOST_SAMPLES:
        raise Refused(f"request.samples: expected at most {MOST_SAMPLES}, got {request['samples']}")
    if used > request["samples"]:
        raise Refused(f"counts: expected at most the {request['samples']} samples that were asked for, got {used}")
    return f"{used} votes in chunks of {chunk}, looks at their sums"


def _radius(payload: Mapping[str, Any]) -> str:
    """Theorem A's radius from bounds computed anew is at least the one that is stated."""
    statement = payload["statement"]
    stated, norm = float(decimal("radius", statement["radius"])), statement["norm"]
    kinds = {level["noise"] for level in payload["function"]["levels"]}
    if norm != ("l2" if kinds == {"gaussian"} else "l1"):
        raise Refused(f"norm: expected l2, or l1 where a noise is not Gaussian, got {norm!r}")
    if (decimal("radius", statement["radius"]) * RADIUS_STEPS).denominator != 1:
        raise Refused(f"radius: expected six digits after the point at most, got {statement['radius']}")
    linf = statement["radius_linf"]
    if (linf is None) != (norm == "l1"):
        raise Refused("radius_linf: expected none exactly where the radius is in L1")
    squared = 0 if linf is None else decimal("radius_linf", linf) ** 2 * math.prod(payload["input"]["shape"])
    if squared > decimal("radius", statement["radius"]) ** 2:
        raise Refused(f"radius_linf: {linf} does not follow from {statement['radius']}")
    if stated == 0:
        return "none is stated"
    label = payload["counts"]["label"]
    if statement["label"] is None or label != statement["label"]["index"]:
        raise Refused("label: expected the one that the counts were divided for")
    proved = _proved(payload, label)
    if stated > proved - RADIUS_MARGIN:
        raise Refused(f"radius: {statement['radius']} is stated, and the counts prove {proved:.9f}")
    return f"{statement['radius']} is stated, and the counts prove {proved:.9f} ({norm})"


def _proved(payload: Mapping[str, Any], label: int) -> float:
    function, counts = payload["function"], payload["counts"]
    alpha, plural = decimal("alpha", payload["statement"]["alpha"]), function["final"] == "plurality"
    weights = [decimal("weight", level["weight"]) for level in counts["levels"]]
    best, ceiling = 0.0, math.inf
    bounds = []
    for k, level in enumerate(counts["levels"]):
        # A lower bound pays its level's weight, an upper bound those of all finer levels (Theorem 3); where both are
        # in one term, at the finest level by plurality, each pays half.
        split = (weights[0] / 2, weights[0] / 2) if k == 0 and plural else (weights[k], sum(weights[:k], Fraction(0)))
        lower, upper = 0.0, 1.0
        for look in level["looks"][: level["taken"]]:
            votes = votes_of(look["votes"], function["classes"])
            share, n = alpha * decimal("share", look["share"]), look["samples"]
            mine, rival = votes.get(label, 0), max((v for c, v in votes.items() if c != label), default=0)
            if payload["statement"]["method"] == "deterministic":
                lower, upper = mine / n, rival / n
                continue
            low, up = _look(mine, rival, n, float(split[0] * share), float(split[1] * share))
            lower, upper = max(lower, low), min(upper, up)
        bounds.append((lower, upper))
    for k in reversed(range(len(bounds))):
        psi, (lower, upper) = _psi(function["levels"][k]), bounds[k]
        threshold = float(decimal("threshold", function["levels"][k]["threshold"]))
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
    """Clopper and Pearson (1934), rounded outward: (lower bound of the label's share, upper bound of every other's)."""
    from scipy.special import betaincinv

    lower = 0.0
    if mine and error_lower:
        lower = error_lower ** (1 / n) if mine == n else float(betaincinv(mine, n - mine + 1, error_lower))
    upper = 1.0
    if rival < n and error_upper:
        upper = 1 - error_upper ** (1 / n) if rival == 0 else 1 - float(betaincinv(n - rival, rival + 1, error_upper))
    lower *= 1 - BOUND_MARGIN
    return lower, min(1.0, upper + BOUND_MARGIN, 1 - lower + ULPS)


def _factor(level: Mapping[str, Any]) -> float:
    """The constant of a level's noise, sigma, Laplace's b or the width 2L: sigma decides it to the last digit.

    sigma is the standard deviation; b is sigma / sqrt(2) cut to six digits, grey_steps the whole number nearest to
    2 sqrt(3) 255 sigma, which is no tie, being irrational.
    """
    sigma, b, steps = decimal("sigma", level["sigma"]), level["b"], level["grey_steps"]
    kind = level["noise"]
    if kind not in ("gaussian", "laplace", "uniform", "splitting"):
        raise Refused(f"noise: expected gaussian, laplace, uniform or splitting, got {kind!r}")
    if (b is not None) != (kind == "laplace") or (steps is not None) != (kind in ("uniform", "splitting")):
        raise Refused(f"b, grey_steps: expected those of {kind} noise alone, got {b} and {steps}")
    if b is not None:
        micro = decimal("b", b) * 10**6
        if micro.denominator != 1 or not 0 < 2 * micro**2 <= (sigma * 10**6) ** 2 < 2 * (micro + 1) ** 2:
            raise Refused(f"b: expected {level['sigma']} / sqrt(2) cut to six digits, got {b}")
        return float(decimal("b", b))
    if steps is not None:
        if steps < 2 or not (2 * steps - 1) ** 2 < 3 * (4 * 255 * sigma) ** 2 < (2 * steps + 1) ** 2:
            raise Refused(f"grey_steps: expected the whole number nearest to 2 sqrt(3) 255 sigma, got {steps}")
        return int(steps) / 255
    return float(sigma)


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
    if request["norm"] not in (("l2", "linf", "l1") if norm == "l2" else ("l1",)):
        raise Refused(f"request.norm: expected one in which {norm} certifies, got {request['norm']!r}")
    certified = decimal("radius", statement["radius"]) > 0
    if certified != (label is not None) or certified != (outcome != "abstained"):
        raise Refused("statement: expected a label exactly where a radius is stated")
    if not certified:
        return "nothing is certified"
    if label["index"] >= payload["function"]["classes"]:
        raise Refused(f"label: expected one of {payload['function']['classes']} classes, got {label['index']}")
    if request["radius"] is not None:
        printed = statement["radius_linf" if request["norm"] == "linf" else "radius"]
        met = decimal("radius", printed) >= decimal("request.radius", request["radius"])
        if met != (outcome == "certified"):
            raise Refused(f"outcome: {outcome} does not follow from {printed} where {request['radius']} was asked for")
    elif outcome != "certified":
        raise Refused(f"outcome: expected certified, since no radius was asked for, got {outcome}")
    return f"{label['name']}, for every {statement['speaks_of']}"
