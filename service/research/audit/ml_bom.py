"""model.cdx.json: a CycloneDX bill of materials of the model, whose card has the audit's figures.

cyclonedx-python-lib 11 has no model cards: the card is written as the standard says, into what the library made.
https://cyclonedx.org/docs/1.6/json/#components_items_modelCard
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ... import __version__
from .schemas import Report, Share
from .words import NORMS

__all__ = ("as_ml_bom",)

# Whence serial numbers are derived: equal audits have equal ones.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:certify:audit")
_DATA = "data"  # how the card names the data's component


def as_ml_bom(report: Report) -> str:
    """CycloneDX 1.6 as JSON. Needs cyclonedx-python-lib."""
    whole = json.loads(_without_card(report))
    whole["metadata"]["component"]["modelCard"] = _card(report)
    return json.dumps(whole, indent=2) + "\n"


def _without_card(report: Report) -> str:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    def digest(text: str) -> list[HashType]:
        return [HashType(alg=HashAlgorithm.SHA_256, content=text.removeprefix("sha256:"))]

    model, data = report.model, report.data
    dataset = Component(
        type=ComponentType.DATA, name=data.name, version=data.part, bom_ref=_DATA, hashes=digest(data.digest)
    )
    properties = {
        "run": report.run,
        "confidence": f"{report.confidence:.10g}",
        "alpha": f"{model.alpha:g}",
        "samples": str(model.samples),
        "images": str(data.images),
        "curve:band": f"{report.curve.band:.4f}",
        "seed_key_fingerprint": model.seed_key_fingerprint,
    }
    component = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=model.bundle,
        version=model.bundle_digest,
        bom_ref="model",
        hashes=digest(model.bundle_digest),
        properties=[Property(name=f"certify:{name}", value=value) for name, value in properties.items()],
    )
    tool = Component(type=ComponentType.APPLICATION, name="certify", version=__version__, bom_ref="certify")
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, report.run), components=[dataset])
    bom.metadata.component = component
    bom.metadata.timestamp = datetime.fromisoformat(report.made_at)
    bom.metadata.tools.components.add(tool)
    bom.register_dependency(component, [dataset])
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()


def _card(report: Report) -> dict[str, Any]:
    channels, height, width = report.model.input_shape
    return {
        "modelParameters": {
            "task": "image classification, certified by randomized smoothing",
            "datasets": [{"ref": _DATA}],
            "inputs": [{"format": f"image, {width} x {height} pixels, {channels} channels"}],
            "outputs": [{"format": f"one of {len(report.model.classes)} labels, and a certified radius"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(report))},
        "considerations": {"technicalLimitations": report.says},
    }


def _metrics(report: Report) -> Iterator[dict[str, Any]]:
    norm = NORMS[report.model.norm]
    for at in report.radii:
        yield _metric(f"certified accuracy at {norm} radius {at.radius:.10g}", "all images", at.certified)
    for each in report.classes:
        for own, at in zip(each.at, report.radii, strict=True):
            yield _metric(f"certified accuracy at {norm} radius {at.radius:.10g}", f"class {each.name}", own.certified)
    for outcome in report.outcomes:
        if outcome.reason is None:
            yield _metric(f"share of images: {outcome.outcome}", "all images", outcome.images)


def _metric(kind: str, of: str, share: Share) -> dict[str, Any]:
    return {
        "type": kind,
        "value": f"{share.share:.4f}",
        "slice": f"{of}, n = {share.of}",
        "confidenceInterval": {"lowerBound": f"{share.lower:.4f}", "upperBound": f"{share.upper:.4f}"},
    }
