"""What an audit's figures say, in words. Each sentence holds by itself; none says more than was proved."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ....models.noises import GREY_STEPS
from ..about import About
from .schemas import AtRadius, Data

__all__ = ("NORMS", "in_words", "sentences")

NORMS = {"l2": "L2", "l1": "L1"}
_REASONS = {
    "deadline": "its time ran out",
    "rival_at_larger_sigma": "with more noise another label leads",
    "no_stage_confident": "no label leads clearly in the noise",
    "undecided": "the samples cannot tell",
}


def in_words(reason: str | None) -> str:
    """Why an image has no certificate, for people; a code without words is shown as it is."""
    return "no reason" if not reason else _REASONS.get(reason, reason)


def sentences(about: About, data: Data, radii: Sequence[AtRadius], confidence: float, certified: int) -> list[str]:
    """certified: images with a certificate, of whatever label."""
    norm = NORMS[about.norm]
    certificate = (
        f"A certificate of radius r says: every image at a distance below r ({norm}, pixels in [0, 1]) from the one "
        "that was certified gets the same label from the certified classifier, a cascade of smoothed ones."
        + _example(about, radii)
    )
    if about.method == "deterministic":
        certificate += " Every noise sample was counted: nothing of this is left to chance."
    else:
        certificate += (
            f" Each certificate is wrong with a probability of at most {about.alpha:g}, over the noise that was drawn."
        )
    return [
        certificate,
        _population(norm, data, radii, confidence),
        _fixed_set(about, data, radii, certified),
        "Intervals of the table and of the classes hold one by one, each with its own confidence; the band around the "
        "curve holds at all radii at once, and so do the lower bounds of all classes at one radius.",
        "Nothing is said of other changes than these (a turn, a blur, other light), of images from elsewhere, or of "
        'labels that are wrong in the data. "Wrong" means certified with another label than the data\'s: a mistake as '
        "stable as a right answer.",
    ]


def _example(about: About, radii: Sequence[AtRadius]) -> str:
    """What the largest radius at which something is shown means for a picture; "" where there is none."""
    radius = max((at.radius for at in radii if at.robust > 0), default=0.0)
    values = math.prod(about.input_shape)
    one = radius * GREY_STEPS
    every = one / values if about.norm == "l1" else one / math.sqrt(values)
    if every < 0.1:  # nothing that could be seen in a file
        return ""
    alone = f"by less than {_down(one)}" if one <= GREY_STEPS else "in any way"
    return (
        f" Below {radius:.10g} is, for example, each of the picture's {values} values changed by less than "
        f"{_down(every)} of {GREY_STEPS} grey steps, or one of them changed {alone}."
    )


def _down(steps: float) -> str:
    return f"{math.floor(steps * 10) / 10:.1f}"


def _population(norm: str, data: Data, radii: Sequence[AtRadius], confidence: float) -> str:
    said = [
        f"at least {_percent(at.robust)} of it is classified right"
        + (f", and stays so under every change of {norm} length below {at.radius:.10g}" if at.radius else "")
        for at in radii
        if at.robust > 0
    ]
    once = ", each file counted once," if data.images < data.rows else ""
    return (
        f"If these images{once} were drawn at random from a population, each on its own, and the model was made "
        f"without them, then with confidence {_percent(confidence)}, over images and noise together and for each "
        "radius by itself, "
        + ("; ".join(said) if said else "nothing is shown at any of these radii")
        + "."
        + (" In a use where the same file comes often, this is not its share of the use." if once else "")
    )


def _percent(share: float) -> str:
    """Of figures with four digits: nothing is rounded."""
    return f"{share * 100:.10g}%"


def _fixed_set(about: About, data: Data, radii: Sequence[AtRadius], certified: int) -> str:
    """The other reading, which needs no bound over images."""
    counted = "; ".join(f"{at.certified.count} of {at.certified.of} at radius {at.radius:.10g}" for at in radii)
    expected = (
        "no certificate is false"
        if about.method == "deterministic"
        else f"of the {certified} certificates at most {about.alpha * data.images:.4g} are expected to be false"
    )
    return (
        "If these images are all that matters, no bound over images is needed: certified with the right label are "
        f"{counted}; {expected}."
    )
