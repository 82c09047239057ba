"""How often a noisy photograph keeps its clean answer, with the `photo` bundle's denoiser and without it.

    python -m benchmarks.photo pictures/held_out            # pictures: see benchmarks.photo_pictures
    python -m benchmarks.photo pictures/held_out --write    # figures and card into models/bundles/photo_denoiser

Of each photograph up to three crops; those of which the classifier is sure (CONFIDENT) are judged, since what it does
not know itself no denoiser can keep. Nobody's labels are asked: agreement is with the classifier's own clean answer.
Intervals are of whole photographs drawn again, because a photograph's crops and draws stand and fall together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.cards import here, listed
from benchmarks.photo_card import agreement, card
from benchmarks.photo_demo import PHOTOGRAPHS, RADIUS, SAMPLES
from benchmarks.report import progress, save
from benchmarks.served import service
from certify import Client
from certify.models.data.pictures import is_image
from certify.models.noise import GENERATOR
from certify.models.photo import DENOISER, SIGMAS, SIZE, UNDENOISED, load_lite0, pack_photo
from certify.models.pipeline import Pipeline
from certify.models.runtime import limit_threads, load_pipeline, options_for

__all__ = ("Crop", "crops", "interval", "measure")

SHORTER = 256  # pixels of a photograph's shorter side before it is cut, as ImageNet's own test images are
APART = 64  # between the outer crops' places at least, or there is only the one in the middle
CONFIDENT = 0.5
RESAMPLES = 10_000
WAYS = ("plain", "denoised")
OUT = Path(__file__).parent / "out"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A crop that the classifier is sure of, and how many of its draws agree with the clean answer."""

    photograph: str
    place: int
    label: int
    confidence: float
    draws: int
    agreeing: Mapping[str, tuple[int, ...]]  # of each of WAYS, at each of SIGMAS


def crops(path: Path) -> list[NDArray[np.uint8]]:
    """(224, 224, 3) each: the two ends of the longer side and its middle, or the middle alone."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    scale = SHORTER / min(picture.size)
    width, height = (max(SIZE, round(length * scale)) for length in picture.size)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    down, right = height - SIZE, width - SIZE
    middle = (down // 2, right // 2)
    ends = ((0, middle[1]), (down, middle[1])) if height > width else ((middle[0], 0), (middle[0], right))
    places = [ends[0], middle, ends[1]] if max(down, right) >= APART else [middle]
    return [pixels[top : top + SIZE, left : left + SIZE] for top, left in places]


def measure(folder: Path, bundle: Path, *, draws: int, limit: int | None = None) -> list[Crop]:
    """Every confident crop of the folder's pictures. draws: at each scale, whole chunks.

    bundle: the packed one, which has a denoiser at some scales; another is packed that has it at the others.
    """
    sure = _confident([file for file in sorted(folder.iterdir()) if is_image(file.name)][:limit])
    progress(f"{len(sure)} crops of {len({name for name, *_ in sure})} photographs")
    agreeing = {way: np.zeros((len(sure), len(SIGMAS)), dtype=np.int64) for way in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        other = Path(temporary) / "other"
        pack_photo(other, undenoised=tuple(set(SIGMAS) - set(UNDENOISED)))
        for packed in (bundle, other):
            options = options_for(bundle=packed)
            pipeline = load_pipeline(packed, options)
            denoised = [sigma in pipeline.manifest.denoised_sigmas for sigma in SIGMAS]
            with ThreadPoolExecutor(options.callers) as pool:
                jobs = [pool.submit(_agreeing, pipeline, *one[2:4], seed, draws) for seed, one in enumerate(sure)]
                counts = np.array([job.result() for job in jobs])
            for at, is_so in enumerate(denoised):
                agreeing[WAYS[is_so]][:, at] = counts[:, at]
            progress(f"denoised at {listed(pipeline.manifest.denoised_sigmas)}: done")
    return [
        Crop(
            photograph=name, place=place, label=label, confidence=confidence, draws=draws,
            agreeing={way: tuple(counts[number].tolist()) for way, counts in agreeing.items()},
        )
        for number, (name, place, _, label, confidence) in enumerate(sure)
    ]  # fmt: skip


def _confident(files: Sequence[Path]) -> list[tuple[str, int, NDArray[np.float32], int, float]]:
    """(photograph, place, pixels (3, 224, 224), label, confidence) of every crop that counts."""
    classifier, sure = load_lite0(), []
    for file in files:
        for place, pixels in enumerate(crops(file)):
            image = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
            with torch.inference_mode():
                confidence, label = classifier(torch.from_numpy(image)[None]).softmax(dim=1)[0].max(dim=0)
            if confidence >= CONFIDENT:
                sure.append((file.name, place, image, int(label), float(confidence)))
    return sure


def _agreeing(pipeline: Pipeline, image: NDArray[np.float32], label: int, seed: int, draws: int) -> tuple[int, ...]:
    return tuple(
        int(pipeline.votes(image, sigma=sigma, seed=seed * len(SIGMAS) + at, first=0, count=draws)[label])
        for at, sigma in enumerate(SIGMAS)
    )


def interval(measured: Sequence[Crop], way: str, at: int) -> tuple[float, float, float]:
    """Share of agreeing draws at the at-th scale, and its 95% interval over photographs (a bootstrap of clusters)."""
    names = sorted({crop.photograph for crop in measured})
    sums = np.zeros((len(names), 2))
    for crop in measured:
        sums[names.index(crop.photograph)] += crop.agreeing[way][at], crop.draws
    chosen = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    shares = sums[chosen].sum(axis=1)
    low, high = np.quantile(shares[:, 0] / shares[:, 1], (0.025, 0.975))
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high)


def runtime(bundle: Path) -> str:
    """What draws here, as a file of votes names it."""
    engine = load_pipeline(bundle, options_for(bundle=bundle)).engine
    return f"{GENERATOR} {engine.device} {engine.name} {engine.dtype}"


def figures(measured: Sequence[Crop], answers: Sequence[Mapping[str, Any]], ran_in: str) -> dict[str, Any]:
    """For the card. ran_in: as runtime() gives it."""
    shares = {
        f"{sigma:g}": {
            way: dict(zip(("share", "low", "high"), interval(measured, way, at), strict=True)) for way in WAYS
        }
        for at, sigma in enumerate(SIGMAS)
    }
    return {
        "photographs": len({crop.photograph for crop in measured}),
        "crops": len(measured),
        "draws": measured[0].draws,
        "drawn_in": f"{ran_in} ({here()})",
        "confident": CONFIDENT,
        "agreement": shares,
        "radius": RADIUS,
        "samples": SAMPLES,
        "answers": list(answers),
        "answered_in": f"{ran_in} ({here()})",
    }


def answer_photographs(bundle: Path) -> list[dict[str, Any]]:
    """The demo's five, through the service: what came back and how long it took."""
    rows = []
    with service("--bundle", str(bundle)) as served, Client(served.url) as client:
        for path in PHOTOGRAPHS:
            answer = client.certify(path, radius=RADIUS, samples=SAMPLES)
            rows.append(
                {
                    "photograph": path.stem,
                    "label": answer.label.name if answer.label else None,
                    "reason": answer.abstain_reason,
                    "radius": answer.radius,
                    "sigma": answer.sigma,
                    "samples": answer.samples_used,
                    "seconds": answer.timing.total_seconds,
                }
            )
            progress(str(rows[-1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder of photographs that training has not seen")
    parser.add_argument("--draws", type=int, default=16, help="at each scale of each crop")
    parser.add_argument("--limit", type=int, help="only so many photographs, to try it")
    parser.add_argument("--write", action="store_true", help="figures and card into models/bundles/photo_denoiser")
    args = parser.parse_args()
    limit_threads()  # torch's own threads spin while they wait, and lose the core to whoever else needs it
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary) / "photo"
        manifest = pack_photo(bundle)
        answers = answer_photographs(bundle)
        measured = measure(args.pictures, bundle, draws=args.draws, limit=args.limit)
        found = figures(measured, answers, runtime(bundle))
    save({"crops": [asdict(crop) for crop in measured], "answers": answers}, OUT / "photo.json")
    print(agreement(found))
    if args.write:
        (DENOISER / "figures.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        (DENOISER / "README.md").write_text(card(found, manifest), encoding="utf-8")


if __name__ == "__main__":
    main()
