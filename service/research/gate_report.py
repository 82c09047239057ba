"""What a gate found, for people, for CI and for a record: one line, cases of JUnit, facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ..core import GateVerdict, Standing
from .gate_policy import GatePolicy
from .gate_run import images_to_go
from .junit import Case

__all__ = ("GateReport",)

_ORIGIN = ("data", "split", "data_digest", "url", "bundle", "bundle_digest", "runtime")


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """verdict: of the whole. standings: of all inputs first, then of each class. classes: the bundle's names."""

    policy: GatePolicy
    verdict: GateVerdict
    standings: Sequence[Standing]
    classes: Sequence[str]
    norm: str  # of the radius: l1, l2, linf
    alpha: float
    seed: int  # of the order
    facts: Mapping[str, object]  # of the run: data, bundle, runtime
    repeated: int = 0  # files left out: "all inputs" are then distinct ones

    @property
    def images(self) -> int:
        return self.standings[0].images

    def line(self) -> str:
        """Verdict, what is shown, on how many images."""
        first = self.standings[0]
        once = ", each file once" if self.repeated else ""
        facts = (
            f"{first.certified} of {first.images} images{once}, confidence {self.policy.confidence:.10g}, "
            f"alpha {self.alpha:g}, order {self.seed}"
        )
        return f"{self.verdict}: {self.facts['bundle']}: {self._finding()} ({facts})"

    def _finding(self) -> str:
        if self.verdict is GateVerdict.PASS:
            more, classes = "", len(self.standings) - 1
            if classes:
                absent = self.policy.class_at_least is not None and classes < len(self.classes)
                more = f", and each of {classes} classes"
                more += f" (these images have none of the other {len(self.classes) - classes})" if absent else ""
            return f"at least {self._share(self.standings[0])} of all inputs are certified at {self._radius}{more}"
        if self.verdict is GateVerdict.FAIL:
            failed = [each for each in self.standings if each.verdict is GateVerdict.FAIL]
            return "; ".join(f"fewer than {self._share(each)} of {self._who(each)}" for each in failed) + (
                f" are certified at {self._radius}"
            )
        return f"{self._open()} certified at {self._radius} or not; {self._to_go()}"

    def _open(self) -> str:
        still = [each for each in self.standings if each.verdict is GateVerdict.UNDECIDED]
        named = ", ".join(f"{self._share(each)} of {self._who(each)}" for each in still[:3])
        return named + (f" and {len(still) - 3} more" if len(still) > 3 else "")

    def _to_go(self) -> str:
        more = images_to_go(self.standings)
        if more is None:
            return "no number of images like these would tell"
        return f"about {more} more images like these would tell"

    @property
    def _radius(self) -> str:
        return f"{self.norm} radius {self.policy.radius:.10g}"

    def _share(self, standing: Standing) -> str:
        return f"{standing.requirement.at_least:.10g}"

    def _who(self, standing: Standing) -> str:
        group = standing.requirement.group
        return "all inputs" if group is None else f"class {self.classes[group]}"

    def cases(self) -> list[Case]:
        return [
            Case(
                name=f"{self._who(each)}: at least {self._share(each)} certified at {self._radius}",
                passed=each.verdict is GateVerdict.PASS,
                kind=str(each.verdict),
                said=self._said(each),
            )
            for each in self.standings
        ]

    def _said(self, each: Standing) -> str:
        by_itself = each.verdict is GateVerdict.PASS and each.at_least < each.requirement.at_least
        return (
            f"{each.verdict}: {each.certified} of {each.images} images certified; of all at least {each.at_least:.4f} "
            f"truly so, at most {each.at_most:.4f} certified by the service"
            + ("; shown after the others, with their part of the error" if by_itself else "")
        )

    def found(self) -> dict[str, object]:
        """JSON. Bounds of all requirements hold at once, each side with probability (1 + confidence) / 2."""
        return {
            "verdict": str(self.verdict),
            "images": self.images,
            "more_images_needed": images_to_go(self.standings) if self.verdict is GateVerdict.UNDECIDED else 0,
            "requirements": [
                {
                    "of": self._who(each),
                    "at_least": each.requirement.at_least,
                    "verdict": str(each.verdict),
                    "images": each.images,
                    "certified": each.certified,
                    "lower_bound": each.at_least,
                    "upper_bound": each.at_most,
                }
                for each in self.standings
            ],
        }

    def properties(self) -> dict[str, object]:
        """Of the JUnit suite."""
        stated = {name: value for name, value in asdict(self.policy).items() if value not in (None, {})}
        origin = {name: self.facts[name] for name in _ORIGIN if name in self.facts}
        return {**stated, "norm": self.norm, "alpha": self.alpha, "order_seed": self.seed, **origin}
