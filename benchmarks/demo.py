"""`make demo`: start the service, certify ten held-out digits over HTTP, show what came back, stop the service."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from benchmarks.served import DIGITS, service
from certify import Client
from certify.service.answering.schemas import CertifyAnswer

SAMPLES = 2_000  # a fifth of the default: a laptop answers in about a second, with radii a little smaller
GO_ON = """\
Go on:

  {certify} serve    the service on http://127.0.0.1:8000, its API at /docs
  curl -F image=@examples/digits/3.png -F radius=0.3 http://127.0.0.1:8000/certify
  {certify} image examples/digits/3.png --radius 0.3    the same in one process

README.md has the rest: your own models, data sets, production."""


def main() -> None:
    with service() as served, Client(served.url) as client:
        print(f"serving on {served.url}\n")
        print(f"{'true':>4}  {'label':>5}  {'sigma':>5}  {'radius':>8}  {'samples':>7}  {'seconds':>7}")
        for path in DIGITS:
            answer = client.certify(path, samples=SAMPLES)
            print(row(path.stem, answer), flush=True)
    print(f"\nthe last answer, whole:\n{answer.model_dump_json(indent=2)}\n")
    certify = Path(sysconfig.get_path("scripts")) / "certify"
    if certify.is_relative_to(Path.cwd()):
        certify = certify.relative_to(Path.cwd())
    print(GO_ON.format(certify=certify))


def row(true_label: str, answer: CertifyAnswer) -> str:
    """One line of the table; an abstention has a dash for its label and its reason for a sigma."""
    label = answer.label.name if answer.label else "-"
    sigma = answer.sigma or answer.abstain_reason
    cells = f"{true_label:>4}  {label:>5}  {sigma:>5}  {answer.radius:>8.6f}  {answer.samples_used:>7}"
    return f"{cells}  {answer.timing.total_seconds:>7.2f}"


if __name__ == "__main__":
    main()
