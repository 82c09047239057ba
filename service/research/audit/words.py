"""What an audit's figures say, in words. Each sentence holds by itself; none says more than was proved."""

from __future__ import annotations

from collections.abc import Sequence

from ..about import About
from .schemas import AtRadius, Data

__all__ = ("NORMS", "sentences")

NORMS = {"l2": "L2", "l1": "L1"}


def sentences(about: About, data: Data, radii: Sequence[AtRadius], confidence: float, certified: int) -> list[str]:
    """certified: images with a certificate, of whatever label."""
    norm = NORMS[about.norm]
    certificate = (
        f"A certificate of radius r says: every image at a distance below r ({norm}, pixels in [0, 1]) from the one "
        "that was certified gets the same label from the certified classifier, a cascade of smoothed ones."
    )
    if about.method == "deterministic":
        certificate += " Every noise sample was counted: nothing of this is left to chance."
    else:
        certificate += (
            f" Each certificate is wrong with a probability of at most {about.alpha:g}, over the noise that was drawn."
        )
    return [
        certificate,
        _population(norm, radii, confidence),
        _fixed_set(about, data, radii, certified),
        "Intervals of the table and of the classes hold one by one, each with its own confidence; the band around the "
        "curve holds at all radii at once, and so do the lower bounds of all classes at one radius.",
        "Nothing is said of other changes than these (a turn, a blur, other light), of images from elsewhere, or of "
        'labels that are wrong in the data. "Wrong" means certified with another label than the data\'s: a mistake as '
        "stable as a right answer.",
    ]


def _population(norm: str, radii: Sequence[AtRadius], confidence: float) -> str:
    said = [
        f"at least {at.robust:.4f} of it is classified right"
        + (f", and stays so under every change of {norm} length below {at.radius:g}" if at.radius else "")
        for at in radii
        if at.robust > 0
    ]
    return (
        "If these images were drawn at random from a population, each on its own, then with confidence "
        f"{confidence:.10g}, over images and noise together and for each radius by itself, "
        + ("; ".join(said) if said else "nothing is shown at any of these radii")
        + "."
    )


def _fixed_set(about: About, data: Data, radii: Sequence[AtRadius], certified: int) -> str:
    """The other reading, which needs no bound over images."""
    counted = "; ".join(f"{at.certified.count} of {at.certified.of} at radius {at.radius:g}" for at in radii)
    expected = (
        "no certificate is false"
        if about.method == "deterministic"
        else f"of the {certified} certificates at most {about.alpha * data.images:.4g} are expected to be false"
    )
    return (
        "If these images are all that matters, no bound over images is needed: certified with the right label are "
        f"{counted}; {expected}."
    )
