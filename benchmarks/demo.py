"""`make demo`: certify ten held-out digits and ten pieces of clothing over HTTP, and show what came back.

demo-out/demo.png has the pictures with their answers. Each bundle has a service of its own, stopped at the end.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.served import DIGITS, FASHION, service
from certify import Client
from certify.service.answering.schemas import CertifyAnswer

SAMPLES = 2_000  # a fifth of the default: a laptop answers in about a second, with radii a little smaller
# Clothing costs ten times as much a sample as a digit. One radius is known after a few hundred.
FASHION_RADIUS, FASHION_SAMPLES = 0.25, 640
SHEET = Path("demo-out") / "demo.png"
CELL, SIDE, LINE = 104, 96, 12  # of the sheet, in pixels
GO_ON = """\
Go on:

  {certify} serve    the service on http://127.0.0.1:8000, its API at /docs
  curl -F image=@examples/digits/3.png -F radius=0.3 http://127.0.0.1:8000/v1/certify
  {certify} image examples/digits/3.png --radius 0.3    the same in one process
  {certify} dataset fashion --bundle fashion --limit 20 --samples 640 --out fashion.tsv    a data set

README.md has the rest: your own models, data sets, production."""


def main() -> None:
    digits = certified("digits", DIGITS, samples=SAMPLES)
    clothes = certified("fashion", FASHION, samples=FASHION_SAMPLES, radius=FASHION_RADIUS)
    SHEET.parent.mkdir(exist_ok=True)
    sheet([digits, clothes]).save(SHEET)
    print(f"the pictures and their answers: {SHEET}\n\nthe last answer, whole:")
    print(f"{list(clothes.values())[-1].model_dump_json(indent=2)}\n")
    certify = Path(sysconfig.get_path("scripts")) / "certify"
    if certify.is_relative_to(Path.cwd()):
        certify = certify.relative_to(Path.cwd())
    print(GO_ON.format(certify=certify))


def certified(
    bundle: str, pictures: Sequence[Path], *, samples: int, radius: float | None = None
) -> dict[Path, CertifyAnswer]:
    """Each picture's answer, by a service of its own; a line of each as it comes. radius: None asks for the largest."""
    width = max(5, *(len(path.stem) for path in pictures))
    answers = {}
    with service("--bundle", bundle) as served, Client(served.url) as client:
        asked = "how far?" if radius is None else f"what is certified within {radius}?"
        print(f"{bundle}, serving on {served.url}; {asked}\n")
        print(f"{'true':>{width}}  {'label':>{width}}  {'sigma':>5}  {'radius':>8}  {'samples':>7}  {'seconds':>7}")
        for path in pictures:
            answers[path] = client.certify(path, samples=samples, radius=radius)
            print(row(path.stem, answers[path], width), flush=True)
    print()
    return answers


def row(true_label: str, answer: CertifyAnswer, width: int) -> str:
    """One line of the table; an abstention has a dash for its label and its reason for a sigma."""
    sigma = answer.sigma or answer.abstain_reason
    cells = f"{true_label:>{width}}  {label_of(answer):>{width}}  {sigma:>5}  {answer.radius:>8.6f}"
    return f"{cells}  {answer.samples_used:>7}  {answer.timing.total_seconds:>7.2f}"


def label_of(answer: CertifyAnswer) -> str:
    """As the pictures' files are named: "ankle-boot" of "Ankle boot"."""
    return answer.label.name.lower().replace("/", "-").replace(" ", "-") if answer.label else "-"


def sheet(rows: Sequence[Mapping[Path, CertifyAnswer]]) -> Image.Image:
    """A row of thumbnails for each bundle; below each picture the answer: green right, red wrong, gray abstained."""
    height = CELL + 2 * LINE
    picture = Image.new("RGB", (CELL * max(map(len, rows)), height * len(rows)), "white")
    pen = ImageDraw.Draw(picture)
    for down, answers in enumerate(rows):
        for across, (path, answer) in enumerate(answers.items()):
            left, top = across * CELL, down * height
            with Image.open(path) as thumbnail:
                grown = thumbnail.convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)
            picture.paste(grown, (left + (CELL - SIDE) // 2, top + (CELL - SIDE) // 2))
            label = label_of(answer)
            color = "gray" if answer.label is None else "green" if label == path.stem else "red"
            said = "abstained" if answer.label is None else f"within {answer.radius:.2f}"
            pen.text((left + 6, top + CELL - 2), f"{label}\n{said}", fill=color)
    return picture


if __name__ == "__main__":
    main()
