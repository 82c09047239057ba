"""What the tables of docs/results.md have in common: names, spreads, costs, and where they are written."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import machine, sentence
from benchmarks.report import progress, table
from benchmarks.votes import SEED
from certify.models.datasets import DataSet
from certify.service.answering.fields import parse_texts
from certify.service.backends import open_backend
from certify.service.backends.base import Backend
from certify.service.research.certifiers import LocalCertifier
from certify.service.research.curves import Curve
from certify.service.research.fixed_budget import pilot_size
from certify.service.research.policies import Policy
from certify.service.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
CURVES = ROOT / "docs" / "curves"


def named(curve: Curve, name: str) -> Curve:
    return dataclasses.replace(curve, name=name)


def only(curves: Sequence[Curve], policy: str) -> Curve:
    """The one curve of a policy."""
    (found,) = (curve for curve in curves if curve.policy == policy)
    return found


def spread(values: Sequence[float], digits: int = 3) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} +- {statistics.stdev(values):.{digits}f}"


async def costs(dataset: DataSet, bundle: str, *, device: str = "cpu") -> str:
    """Samples and seconds of each policy, which take turns image by image: a busy machine is busy for all of them."""
    settings = load_settings(backend="embedded", bundle=bundle, device=device)
    backend = open_backend(settings)
    await backend.open()
    seconds: dict[str, list[float]] = defaultdict(list)
    samples: dict[str, list[int]] = defaultdict(list)
    try:
        chunk, labels = backend.info().chunk, dataset.labels_in(backend.info().class_names)
        certifiers = _policies(backend, settings)
        for position in range(len(dataset)):
            for name, one in certifiers.items():
                began = time.perf_counter()
                verdict = await one.certify(dataset.idx[position], labels[position], dataset.read(position))
                seconds[name].append(time.perf_counter() - began)
                samples[name].append(verdict.samples)
            progress(f"  cost: image {position + 1} of {len(dataset)}")
    finally:
        await backend.close()
    draws, took = ({name: statistics.mean(row) for name, row in rows.items()} for rows in (samples, seconds))
    single = next(iter(certifiers))
    rows = [
        [name, f"{draws[name]:.0f}", f"{took[name]:.2f}", f"{draws[name] / draws[single]:.2f}",
         f"{took[name] / took[single]:.2f}"]
        for name in certifiers
    ]  # fmt: skip
    return "\n\n".join(
        [
            f"{len(dataset)} images, policies in turn for each image, embedded backend "
            f"({sentence(machine()).rstrip('.')}). A pilot is {pilot_size(chunk)} draws. `best` from a file of votes "
            "draws what `first` does.",
            table(["policy", "mean samples", "mean seconds", "samples / one scale", "time / one scale"], rows),
        ]
    )


def _policies(backend: Backend, settings: Settings) -> dict[str, LocalCertifier]:
    """One scale, to which the others are held, first."""
    middle = f"{backend.info().sigmas[1]:g}"

    def certifier(policy: Policy, **texts: str) -> LocalCertifier:
        fields = parse_texts({name: [text] for name, text in texts.items()})
        return LocalCertifier(backend, settings, fields, policy=policy, seed=SEED)

    return {
        f"one scale ({middle}), N = 10,000": certifier("single", sigmas=middle),
        "reference, p0 = .5, N = 10,000": certifier("reference", threshold="0.5"),
        "reference, tuned, N = 10,000": certifier("reference"),
        "first, N = 10,000": certifier("first"),
        "max-radius, N = 10,000": certifier("max-radius"),
        "best, as served, 10,000 in all": certifier("best"),
        "best, as served, 3,000 in all": certifier("best", samples="3000"),
        "best, as served, radius .25": certifier("best", radius="0.25"),
        "best, as served, radius .5": certifier("best", radius="0.5"),
    }


def write(name: str, text: str, path: Path = RESULTS) -> None:
    """Replace what stands between the marks of `name` in a document of docs/."""
    document = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: written by the command -->\n", f"<!-- end of {name} -->"
    head, began, rest = document.partition(begin)
    _, ended, tail = rest.partition(end)
    if not (began and ended):
        raise SystemExit(f"{path}: expected the marks {begin.strip()} and {end}")
    path.write_text(f"{head}{begin}\n{text}\n\n{end}{tail}", encoding="utf-8")
