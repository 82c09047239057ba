"""report.html: one file, which asks the network for nothing, prints on A4 and is read aloud."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from ... import __version__
from .schemas import Report
from .words import NORMS, in_words

__all__ = ("MOST_CLASSES", "facts_of", "page")

# Of a table for people; ImageNet's thousand would be twenty pages.
MOST_CLASSES = 50
# Below so many pixels of a side a picture is enlarged with its pixels as they are.
_SMALL = 64


def page(report: Report, *, svg: str, pictures: Mapping[int, str]) -> str:
    """svg: the curve, as drawing.py has it. pictures: idx -> data: URL. All else is escaped. Needs Jinja2."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    places = [at.radius for at in report.radii]
    return environment.get_template(
        "report.html.j2"
    ).render(
        r=report,
        svg=Markup(svg),  # matplotlib's own, of numbers and of our words alone
        pictures=pictures,
        made_by=__version__,
        norm=NORMS[report.model.norm],
        small=max(report.model.input_shape[1:]) <= _SMALL,
        most_classes=MOST_CLASSES,
        class_place=places.index(report.class_radius),
        facts_of=facts_of(report),
        in_words=in_words,
        repeat=_words(report.repeat),
    )


def facts_of(report: Report) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that the figures depend on, for people: titles, and names with their values."""
    data, model = report.data, report.model
    runtime = model.runtime
    return [
        (
            "Data",
            [
                ("name", data.name),
                ("part", data.part),
                ("digest", data.digest),
                ("labels", data.labels),
                ("to the model's size", "cropped" if data.cropped else "resized" if data.resized else "as they are"),
                ("passed over", "; ".join(f"{count} ({why})" for why, count in data.skipped.items()) or "nothing"),
            ],
        ),
        (
            "Model",
            [
                ("bundle", model.bundle),
                ("digest", model.bundle_digest),
                ("input (C, H, W)", " x ".join(map(str, model.input_shape))),
                ("classes", str(len(model.classes))),
                ("scales (sigma)", ", ".join(f"{sigma:g}" for sigma in model.sigmas)),
                ("thresholds", ", ".join(f"{threshold:g}" for threshold in model.thresholds)),
                ("noise", ", ".join(model.noise)),
                ("finest scale by", model.final),
                ("runtime", f"{runtime.generator} {runtime.device} {runtime.engine} {runtime.dtype}"),
                ("micro-batch", str(runtime.micro_batch)),
                ("certify", model.certify),
            ],
        ),
        (
            "Certificates",
            [
                ("method", model.method),
                ("alpha", f"{model.alpha:g}"),
                ("samples, at most", str(model.samples)),
                ("noise key's fingerprint", model.seed_key_fingerprint),
                ("confidence of the report", f"{report.confidence:.10g}"),
            ],
        ),
        ("What rows depend on", [(name, _value(value)) for name, value in report.parameters.items()]),
    ]


def _value(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _words(command: str) -> list[str]:
    """A line is never broken inside an option. A name that ends its quotes is shown as it is."""
    try:
        return [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:
        return [command]
