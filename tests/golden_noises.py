"""Radii of cascades of other noises, in 50-digit arithmetic that shares nothing with the code: golden/noises.json.

    python -m tests.golden_noises        writes the file anew; equal each time

psi is written here as docs/protocol.md, 2.3, has it, bounds are roots of the regularised incomplete beta function, and
counted cascades are in fractions. Numbers are decimal strings.
"""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

from mpmath import betainc, findroot, floor, inf, log, mp, mpf, nint, nstr, sqrt
from mpmath import erfinv as _erfinv

FILE = Path(__file__).parent / "golden" / "noises.json"
KINDS = ("gaussian", "laplace", "uniform", "splitting")
SCALES = ("0.12", "0.25", "0.5", "1.0")
Json = dict[str, Any]


def constant(kind: str, s: str) -> Any:
    """sigma, b, 2L, 2L: exact but for the roots."""
    if kind == "gaussian":
        return mpf(float(s))
    if kind == "laplace":
        return floor(mpf(s) / sqrt(2) * 10**6) / 10**6
    return nint(2 * sqrt(3) * 255 * mpf(s)) / 255


def psi(kind: str, s: str, p: Any) -> Any:
    scale = constant(kind, s)
    if kind == "gaussian":
        return scale * sqrt(2) * _erfinv(2 * p - 1) if 0 < p < 1 else (inf if p else -inf)
    if kind == "laplace":
        half = mpf(1) / 2
        return scale * log(2 * p) if p <= half else (-scale * log(2 * (1 - p)) if p < 1 else inf)
    return scale * p


def lower(k: int, n: int, alpha: Any) -> Any:
    if k == 0:
        return mpf(0)
    if k == n:
        return alpha ** (mpf(1) / n)
    low, high = mpf(0), mpf(k) / n
    for _ in range(40):  # to where the secant is safe
        middle = (low + high) / 2
        low, high = (middle, high) if betainc(k, n - k + 1, 0, middle, regularized=True) < alpha else (low, middle)
    return findroot(lambda p: betainc(k, n - k + 1, 0, p, regularized=True) - alpha, (low, high), tol=mpf(10) ** -80)


def upper(k: int, n: int, alpha: Any) -> Any:
    return 1 - lower(n - k, n, alpha)


def certificate(kinds: list[str], scales: list[str], p0: list[str], final: str, low: list[Any], up: list[Any]) -> Json:
    """docs/protocol.md, 2.3, read directly."""
    paths: list[Any] = []
    for k in range(len(kinds)):
        bar = mpf(float(p0[k]))
        if k == 0 and final == "plurality":
            own = (psi(kinds[0], scales[0], low[0]) - psi(kinds[0], scales[0], up[0])) / 2 if low[0] > up[0] else None
        else:
            own = psi(kinds[k], scales[k], low[k]) - psi(kinds[k], scales[k], bar) if low[k] > bar else None
        terms = [own]
        for j in range(k + 1, len(kinds)):
            bar = mpf(float(p0[j]))
            terms.append(psi(kinds[j], scales[j], bar) - psi(kinds[j], scales[j], up[j]) if up[j] < bar else None)
        paths.append(None if None in terms else min(terms))
    open_ = [r for r in paths if r is not None]
    return {
        "radius": nstr(max(open_), 40) if open_ else "0",
        "path_radii": [None if r is None else nstr(r, 40) for r in paths],
    }


def votes(rng: random.Random, n: int) -> list[int]:
    """Of four classes: unanimous, one-sided or torn."""
    share = rng.choice([1.0, 0.99, 0.95, 0.8, 0.6, 0.45])
    label = sum(rng.random() < share for _ in range(n))
    first = rng.randint(0, n - label)
    second = rng.randint(0, n - label - first)
    return [label, first, second, n - label - first - second]


def sampled(rng: random.Random, kinds: list[str], final: str) -> Json:
    levels = len(kinds)
    scales = sorted(rng.sample(SCALES, levels), key=float)
    p0 = [rng.choice(["0.5", "0.5", "0.6", "0.75"]) for _ in kinds]
    alpha = rng.choice(["0.1", "0.01", "0.001", "0.000000001"])
    weights = ["1"] if levels == 1 else ["0.9"] + ["0.1"] if levels == 2 else ["0.05", "0.9", "0.05"]
    counts = [votes(rng, rng.choice([64, 500, 2_000])) for _ in kinds]
    w, a = [mpf(float(x)) for x in weights], mpf(float(alpha))
    shares = [(w[k], sum(w[:k])) for k in range(levels)]
    if final == "plurality":
        shares[0] = (w[0] / 2, w[0] / 2)
    low, up = [], []
    for row, (share_low, share_up) in zip(counts, shares, strict=True):
        low.append(lower(row[0], sum(row), a * share_low))
        rival = upper(max(row[1:]), sum(row), a * share_up) if share_up else mpf(1)
        up.append(min(rival, 1 - low[-1]))
    case = {"noise": kinds, "scales": scales, "p0": p0, "final": final, "alpha": alpha, "weights": weights}
    return {**case, "counts": counts, "expected": certificate(kinds, scales, p0, final, low, up)}


def counted(rng: random.Random, levels: int, final: str) -> Json:
    """Every probability a fraction; radii are fractions too."""
    scales = sorted(rng.sample(SCALES, levels), key=float)
    p0 = [rng.choice(["0.5", "0.625", "0.75"]) for _ in scales]
    whole = [int(nint(2 * sqrt(3) * 255 * mpf(s))) for s in scales]
    counts = [votes(rng, n) for n in whole]
    paths: list[Fraction | None] = []
    for k in range(levels):
        terms = [_counted_own(counts[k], whole[k], Fraction(p0[k]), k == 0 and final == "plurality")]
        for j in range(k + 1, levels):
            terms.append((Fraction(p0[j]) * whole[j] - max(counts[j][1:])) / 255)
        paths.append(min(terms) if all(term > 0 for term in terms) else None)
    open_ = [r for r in paths if r is not None]
    expected = {
        "radius": str(max(open_, default=Fraction(0))),
        "path_radii": [None if r is None else str(r) for r in paths],
    }
    return {"scales": scales, "p0": p0, "final": final, "counts": counts, "expected": expected}


def _counted_own(row: list[int], whole: int, bar: Fraction, plurality: bool) -> Fraction:
    return Fraction(row[0] - max(row[1:]), 510) if plurality else (row[0] - bar * whole) / 255


def golden() -> Json:
    mp.dps = 60
    rng = random.Random(11)
    ps = ["0", "1e-9", "0.1", "0.3", "0.5", "0.6", "0.75", "0.9", "0.999", "0.999999999", "0.9999999999999"]
    mixes = [[kind] for kind in KINDS[1:]] + [[a, b] for a in KINDS for b in KINDS if (a, b) != ("gaussian",) * 2]
    mixes += [["gaussian", "laplace", "uniform"], ["laplace"] * 3, ["uniform"] * 3, ["uniform", "gaussian", "laplace"]]
    return {
        "psi": [
            {"noise": kind, "scale": s, "p": p, "psi": nstr(psi(kind, s, mpf(float(p))) - psi(kind, s, mpf("0.5")), 40)}
            for kind in KINDS
            for s in SCALES
            for p in ps
        ],
        "cascade": [
            sampled(rng, kinds, final) for kinds in mixes for final in ("threshold", "plurality") for _ in range(2)
        ],
        "counted": [
            counted(rng, levels, final)
            for levels in (1, 2, 3)
            for final in ("threshold", "plurality")
            for _ in range(5)
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
