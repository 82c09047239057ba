"""Requests whose answers were recorded, and how they are asked again.

Recorded anew when noise came in whole grey steps (philox-int-1), seeds came to bind what a request means
(certify-seed-v2) and looks became whole micro-batches: counts and what follows from them changed, and nothing else but
the finest threshold under plurality, which is 1/2 now.

    python -m tests.recorded_requests        records them anew: only when answers are meant to change, and say why

Digits run in float32 on torch: bfloat16 is only there on some processors, and rounds otherwise on each.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from certify.service.backends.embedded import EmbeddedBackend
from certify.service.backends.fake import FakeBackend
from tests import pictures
from tests.servers import in_process

RECORDED = Path(__file__).parent / "golden" / "answers.json"
Fields = dict[str, Any]

SMALL: Fields = {"samples": 2_000}
FAKE: tuple[Fields, ...] = (
    {},
    {"samples": 2_000},
    {"samples": 1_001},
    {"samples": 100_000},
    {"radius": 0.25},
    {"radius": 0.1, "samples": 3_000},
    {"radius": 1.25, "samples": 20_000},
    {"radius": 0.5000005},
    {"radius": 0.03, "norm": "linf"},
    {"norm": "linf"},
    {"alpha": 1e-9},
    {"alpha": 0.1, "samples": 640},
    {"threshold": [0.6]},
    {"threshold": [0.5, 0.7, 0.9]},
    {"threshold": [0.99], "radius": 0.2},
    {"final": "threshold"},
    {"final": "threshold", "radius": 0.4},
    {"final": "plurality", "threshold": [0.75]},
    {"sigmas": [0.5]},
    {"sigmas": [1.0, 0.25]},
    {"sigmas": [0.5, 0.25], "threshold": [0.6, 0.8]},
    {"sigmas": [0.25], "final": "threshold", "samples": 4_096},
    {"deadline_ms": 600_000},
    {"deadline_ms": 600_000, "radius": 0.25, "alpha": 0.01},
    {"resize": True},
    {"samples": 5_000, "radius": 0.75},
    {"samples": 30_000, "alpha": 1e-5},
    {"sigmas": [1.0], "radius": 0.9, "samples": 8_000},
    {"radius": 0.3, "threshold": [0.5, 0.5, 0.75], "final": "threshold", "samples": 6_400},
    {"radius": 0.05, "norm": "linf", "sigmas": [0.25, 0.5, 1.0], "samples": 12_000, "alpha": 0.002},
)
REFUSED: tuple[Fields, ...] = (
    {"samples": 0},
    {"samples": 64},
    {"radius": 9.0},
    {"radius": -1.0},
    {"sigmas": [0.3]},
    {"threshold": [0.4]},
    {"threshold": [0.5, 0.5]},
    {"colour": "red"},
)
DIGITS: tuple[Fields, ...] = (
    SMALL,
    SMALL,
    {"samples": 3_000},
    {"radius": 0.2, **SMALL},
    {"radius": 0.1, **SMALL},
    {"radius": 0.5, "samples": 3_000},
    {"sigmas": [0.25], **SMALL},
    {"sigmas": [0.12, 0.5], **SMALL},
    {"final": "threshold", **SMALL},
    {"threshold": [0.6], **SMALL},
    {"alpha": 0.05, **SMALL},
    {"norm": "linf", "radius": 0.02, **SMALL},
)


async def answers_on_fake(images: Sequence[bytes], requests: Sequence[Fields]) -> list[Fields]:
    async with in_process(FakeBackend()) as service:
        return [await _ask(service.client, image, fields) for image, fields in zip(images, requests, strict=True)]


async def answers_on_digits(bundle: Path, images: Sequence[bytes]) -> list[Fields]:
    async with in_process(EmbeddedBackend(bundle, engine="torch")) as service:  # type: ignore[arg-type]
        return [await _ask(service.client, image, fields) for image, fields in zip(images, DIGITS, strict=True)]


async def _ask(client: Any, image: bytes, fields: Fields) -> Fields:
    """What came back, less what differs each time. As JSON, so that numbers are compared to their last digit."""
    body = {"image": base64.b64encode(image).decode(), **fields}
    answer: Fields = (await client.post("/certify", json=body)).json()
    return {name: value for name, value in answer.items() if name not in ("id", "timing", "instance")}


def fake_images(requests: Sequence[Fields]) -> list[bytes]:
    return [
        pictures.png(seed, size=(12, 9) if fields.get("resize") else (8, 8)) for seed, fields in enumerate(requests)
    ]


def float32_digits(folder: Path) -> Path:
    """A copy of the shipped digits in float32; with thresholds of its own, since tuning may move the shipped ones."""
    from certify.models.bundle import find_bundle, load_manifest, save_manifest

    copy = folder / "digits"
    shutil.copytree(find_bundle("digits"), copy)
    save_manifest(dataclasses.replace(load_manifest(copy), dtype="float32", thresholds=(0.5, 0.5, 0.99)), copy)
    return copy


def _digits() -> list[bytes]:
    from PIL import Image

    from certify.models.train.data import digits_split, load_digits

    data = load_digits()
    return [pictures.encoded(Image.fromarray(data.pixels[i])) for i in digits_split().held_out[: len(DIGITS)]]


def main() -> None:
    images = _digits()
    with tempfile.TemporaryDirectory() as folder:
        digits = asyncio.run(answers_on_digits(float32_digits(Path(folder)), images))
    recorded = {
        "fake": asyncio.run(answers_on_fake(fake_images(FAKE), FAKE)),
        "refused": asyncio.run(answers_on_fake(fake_images(REFUSED), REFUSED)),
        "digits_images": [base64.b64encode(image).decode() for image in images],
        "digits": digits,
    }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
