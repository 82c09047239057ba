"""Examples of the API's document: requests that the served bundle answers as they stand, and an answer."""

from __future__ import annotations

import base64
from typing import Any

from ..answering.plans import default_method, largest_radius, least_samples, make_plan
from ..answering.schemas import CertifyFields
from ..backends.base import BackendInfo

__all__ = ("ANSWER_EXAMPLE", "DIGIT", "field_examples", "request_examples")

Json = dict[str, Any]

# A handwritten three as an 8 x 8 gray PNG in base64, so that the example requests can be sent as they stand.
_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAPElEQVR42i3IQRGAMAwAwR0GGSCkQhASIwhpfRQhxEd40HvtHPTZ"
    "QNR7H9Apf9dCzVinVdgIT6ads3IMHz4ZEd871PjnAAAAAElFTkSuQmCC"
)
DIGIT = base64.b64decode(_PNG)
_SIZE = (8, 8)  # height, width

ANSWER_EXAMPLE: Json = {
    "id": "6f1c6a52-3c0f-4a54-9f3e-0a6a3f0a4f0e",
    "outcome": "certified",
    "abstain_reason": None,
    "label": {"index": 3, "name": "3"},
    "sigma": 0.5,
    "radius": 0.542185,
    "radius_norm": "l2",
    "radius_linf": 0.067773,
    "radius_l1": 0.542185,
    "requested_radius": 0.5,
    "norm": "l2",
    "method": "sampled",
    "noise": ["gaussian", "gaussian", "gaussian"],
    "uncertified_label": {"index": 3, "name": "3"},
    "alpha": 0.001,
    "threshold": [0.5, 0.5, 0.5],
    "final": "plurality",
    "samples_used": 512,
    "stages": [
        {
            "sigma": 1.0,
            "outcome": "passed",
            "samples": 192,
            "pilot_samples": 64,
            "count": 87,
            "rival_count": 32,
            "p_lower": 0.292464,
            "p_rival_upper": 0.293846,
            "radius_bound": 0.542185,
            "noise": "gaussian",
        },
        {
            "sigma": 0.5,
            "outcome": "path",
            "samples": 192,
            "pilot_samples": 64,
            "count": 185,
            "rival_count": 3,
            "p_lower": 0.878898,
            "p_rival_upper": 0.102036,
            "radius_bound": 0.584748,
            "noise": "gaussian",
        },
    ],
    "input": {
        "sha256": "b5aaa1951c15b85d16bd54294a6a08cfa5e45d7b9ab5d16261e98d22f6480d0b",
        "shape": [1, 8, 8],
        "range": [0, 1],
        "resized": False,
        "turned": False,
    },
    "bundle": {"name": "digits", "digest": "sha256:" + "0" * 64},
    "runtime": {
        "generator": "philox-int-1",
        "device": "cpu",
        "engine": "torch",
        "dtype": "float32",
        "micro_batch": 64,
    },
    "evidence": None,
    "seed_key_fingerprint": "5f0c9d1a2b3e4c6d",
    "timing": {"total_seconds": 0.41, "sampling_seconds": 0.38, "cached": False},
}

# A second of work on a laptop; and a radius that many digits reach.
_SAMPLES, _RADIUS = 2000, 0.5


def request_examples(info: BackendInfo | None, *, max_samples: int) -> dict[str, Json]:
    """Of each path that takes an image, for a JSON body. info: what is served; None while nothing is."""
    field = field_examples(info, max_samples=max_samples)
    resize = {"resize": True} if field["resize"] else {}
    samples = field["samples"]

    def of(images: Json) -> Json:
        return {
            "how_far": {
                "summary": f"As far as {samples:,} samples can certify",
                "value": {**images, **resize, "samples": samples},
            },
            "this_far": {
                "summary": "Does the answer hold within this radius?",
                "value": {**images, **resize, "radius": field["radius"], "deadline_ms": 5000},
            },
        }

    looks = {"summary": "Two draws of each scale", "value": {"image": _PNG, **resize, "draws": 2}}
    return {
        "/v1/certify": of({"image": _PNG}),
        "/certify": of({"image": _PNG}),
        "/v1/certify/batch": of({"image": [_PNG, _PNG], "name": ["one.png", "another.png"]}),
        "/v1/preview": {"looks": looks},
    }


def field_examples(info: BackendInfo | None, *, max_samples: int) -> Json:
    """Of each field beside the image: what Swagger UI fills a form with, which else is the least that may be sent."""
    fields = CertifyFields()
    made: Json = {"resize": False, "radius": _RADIUS, "samples": _SAMPLES, "alpha": fields.alpha}
    made |= {"deadline_ms": 60_000, "evidence": False, "signed": False, "draws": 2}
    if info is not None:
        least = least_samples(info.cascade, alpha=fields.alpha, info=info)
        farthest = largest_radius(make_plan(fields, info, max_samples_allowed=fields.samples))
        made["resize"] = info.input_shape[1:] != _SIZE
        made["samples"] = min(max(_SAMPLES, least), max_samples)
        if farthest < 2 * _RADIUS:
            made["radius"] = float(f"{farthest / 4:.2g}")
        made |= {"norm": info.norm, "method": default_method(info.cascade), "final": info.final}
        made |= {"sigmas": list(info.sigmas), "threshold": list(info.thresholds)}
    return made
