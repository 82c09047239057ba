"""How finely a request may be written: one that differs in a last digit would be another draw of the same claim.

See docs/protocol.md, 6.3. Radii need no such rule: they are rounded up to their grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from ..errors import RequestError

__all__ = ("UNREAD_THRESHOLD", "check_alpha", "check_thresholds")

# .001, .05, .0025: nobody has yet asked for a third digit of a failure probability.
_ALPHA_DIGITS = 2
# Certified accuracy moves by less than a thousandth between neighbours (docs/results.md).
_THRESHOLD_DECIMALS = 4
# Of the finest scale under plurality, which has none: no certificate reads it.
UNREAD_THRESHOLD = 0.5


def check_alpha(alpha: float) -> None:
    """Raises RequestError for more than two significant digits."""
    exact = Decimal(repr(alpha))
    _refuse_between("alpha", exact, Decimal(1).scaleb(exact.adjusted() + 1 - _ALPHA_DIGITS), "two significant digits")


def check_thresholds(values: Iterable[float], own: tuple[float, ...]) -> None:
    """Raises RequestError for more than four decimals. own: the bundle's, which may have more."""
    for value in values:
        if value not in own:
            _refuse_between("threshold", Decimal(repr(value)), Decimal(1).scaleb(-_THRESHOLD_DECIMALS), "four decimals")


def _refuse_between(field: str, exact: Decimal, step: Decimal, most: str) -> None:
    below, above = (exact.quantize(step, rounding) for rounding in (ROUND_FLOOR, ROUND_CEILING))
    if below != above:
        near = " or ".join(str(float(value)) for value in (below, above) if value < 1)
        raise RequestError(
            "out_of_range", f"{field}: expected at most {most}, such as {near}, got {float(exact)}", field=field
        )
