"""`make demo-photo`: five photographs that training has not seen, certified over HTTP, and a picture of what was seen.

The bundle is packed into demo-out/photo at the first run. demo-out/photo.png shows each photograph clean, with noise of
the scale that certified it, and what the classifier saw of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.served import service
from certify import Client
from certify.models.denoiser import Denoiser
from certify.models.photo import DENOISER, SIZE, UNDENOISED, pack_photo
from certify.service.answering.schemas import CertifyAnswer

__all__ = ("PHOTOGRAPHS", "RADIUS", "SAMPLES", "sheet")

# Held-out ones that may be passed on; examples/photos/CREDITS.md has whose they are.
PHOTOGRAPHS = tuple(sorted((Path(__file__).parents[1] / "examples" / "photos").glob("*.jpg")))
RADIUS = 0.25
SAMPLES = 600  # a clear photograph needs a tenth; one that is not sure of itself takes all of them, a minute's work
SEEN_AT = 0.25  # where no scale certified it
OUT = Path("demo-out")
SEED = 0
LINE = 18  # pixels for a line of text


def main() -> None:
    bundle = OUT / "photo"
    if not bundle.exists():
        print(f"packing {bundle}", flush=True)
        pack_photo(bundle)
    answers: list[CertifyAnswer] = []
    with service("--bundle", str(bundle)) as served, Client(served.url) as client:
        print(f"serving on {served.url}; what is certified within {RADIUS}?\n", flush=True)
        for path in PHOTOGRAPHS:
            answer = client.certify(path, radius=RADIUS, samples=SAMPLES)
            spent = f"{answer.samples_used} samples, {answer.timing.total_seconds:.1f} s"
            print(f"{path.stem:>8}: {said(answer)}; {spent}", flush=True)
            answers.append(answer)
    sheet(PHOTOGRAPHS, answers).save(OUT / "photo.png")
    print(f"\nwhat was seen: {OUT / 'photo.png'}; how sure to be of it: docs/photo.md")


def sheet(photographs: Sequence[Path], answers: Sequence[CertifyAnswer]) -> Image.Image:
    """A row for each photograph: clean, noisy, as the classifier sees it, and below them what was answered."""
    denoiser, generator = Denoiser.from_folder(DENOISER).float(), torch.Generator().manual_seed(SEED)
    picture = Image.new("RGB", (3 * SIZE, (SIZE + LINE) * len(photographs)), "white")
    pen = ImageDraw.Draw(picture)
    for number, (path, answer) in enumerate(zip(photographs, answers, strict=True)):
        clean = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        sigma = answer.sigma or SEEN_AT
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        with torch.inference_mode():
            seen = noisy if sigma in UNDENOISED else denoiser.denoise(noisy, sigma)
        shown = torch.cat([clean, noisy, seen]).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
        top = number * (SIZE + LINE)
        for column, pixels in enumerate(shown):
            picture.paste(Image.fromarray(pixels), (column * SIZE, top))
        pen.text((4, top + SIZE + 2), f"{path.stem}, sigma {sigma:g}: {said(answer)}", fill="black")
    return picture


def said(answer: CertifyAnswer) -> str:
    """The answer in words."""
    clean = short(answer.uncertified_label.name)
    if answer.label is None:
        return f"nothing certified ({answer.abstain_reason}); without noise {clean}"
    label = short(answer.label.name)
    beside = "" if label == clean else f"; without noise {clean}"
    return f"{label} within {answer.radius:.3f}{beside}"


def short(name: str) -> str:
    """ImageNet's names are lists: "giant panda, panda, panda bear, ..."."""
    return name.split(",")[0]


if __name__ == "__main__":
    main()
