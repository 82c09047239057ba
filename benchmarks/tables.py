"""What the tables of docs/results.md have in common: votes, replays, costs, and where they are written."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import machine, sentence
from certify.models.datasets import DataSet
from certify.models.runtime import RuntimeOptions
from certify.service.answering.fields import parse_texts
from certify.service.backends import open_backend
from certify.service.core import Certifier
from certify.service.core.certificate import Final
from certify.service.research.certifiers import LocalCertifier
from certify.service.research.curves import Curve
from certify.service.research.fixed_budget import pilot_size
from certify.service.research.policies import Policy
from certify.service.research.votes_file import VotesFile, load_votes
from certify.service.settings import load_settings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
CURVES = ROOT / "docs" / "curves"
SEED = 1  # of all noise


def votes_of(data: str, bundle: str | Path, stem: Path, samples: int, *options: str) -> VotesFile:
    """By `certify dataset`, which draws only what is missing in stem.npz."""
    path = stem.with_name(stem.name + ".npz")
    command = [sys.executable, "-m", "certify", "dataset", data, "--bundle", str(bundle), "--samples", str(samples)]
    command += ["--seed", str(SEED), "--out", str(stem.with_name(stem.name + ".tsv")), "--votes", str(path), *options]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return load_votes(path)


def adaptive(votes: VotesFile, samples: int, thresholds: Sequence[float], final: Final) -> Curve:
    """The service's own sampler with `samples` draws in all, replayed from the votes."""
    sums = np.concatenate([np.zeros_like(votes.votes[:, :, :1]), votes.votes.cumsum(axis=2)], axis=2)
    outcomes = []
    for i in range(len(votes.idx)):
        certifier = Certifier(
            votes.sigmas.tolist(),
            votes.pilot.shape[-1],
            alpha=float(votes.alpha),
            threshold=list(thresholds),
            final=final,
            samples=samples,
            chunk=votes.chunk,
            grain=RuntimeOptions().micro_batch,
            pilot=int(votes.pilot[0, 0].sum()),
        )
        while (query := certifier.next()) is not None:
            if query.purpose == "pilot":
                counts = votes.pilot[i, query.level]
            else:
                first, last = query.first // votes.chunk, (query.first + query.count) // votes.chunk
                counts = sums[i, query.level, last] - sums[i, query.level, first]
            certifier.observe(query, counts.tolist())
        outcomes.append(certifier.result())
    labels = [None if o.label is None else o.label for o in outcomes]
    return Curve(
        name=f"the service, {samples} in all",
        correct=np.array([a == b for a, b in zip(labels, votes.labels.tolist(), strict=True)]),
        abstained=np.array([label is None for label in labels]),
        radius=np.array([o.radius for o in outcomes]),
        samples=np.array([o.samples_used for o in outcomes]),
    )


def named(curve: Curve, name: str) -> Curve:
    return dataclasses.replace(curve, name=name)


def spread(values: Sequence[float], digits: int = 3) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} +- {statistics.stdev(values):.{digits}f}"


async def costs(dataset: DataSet, bundle: str) -> str:
    """Samples and seconds of each policy, which take turns image by image: a busy machine is busy for all of them."""
    settings = load_settings(backend="embedded", bundle=bundle)
    backend = open_backend(settings)
    await backend.open()
    chunk, labels = backend.info().chunk, dataset.labels_in(backend.info().class_names)

    def certifier(policy: Policy, **texts: str) -> LocalCertifier:
        fields = parse_texts({name: [text] for name, text in texts.items()})
        return LocalCertifier(backend, settings, fields, policy=policy, seed=SEED)

    half = {"threshold": "0.5"}
    middle = f"{backend.info().sigmas[1]:g}"
    certifiers = {
        f"one scale ({middle}), N = 10,000": certifier("single", sigmas=middle),
        "reference, p0 = .5, N = 10,000": certifier("reference", **half),
        "reference, tuned, N = 10,000": certifier("reference"),
        "first, N = 10,000": certifier("first"),
        "max-radius, N = 10,000": certifier("max-radius"),
        "best, as served, 10,000 in all": certifier("best"),
        "best, as served, 3,000 in all": certifier("best", samples="3000"),
        "best, as served, radius .25": certifier("best", radius="0.25"),
        "best, as served, radius .5": certifier("best", radius="0.5"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in certifiers}
    samples: dict[str, list[int]] = {name: [] for name in certifiers}
    try:
        for position in range(len(dataset)):
            for name, one in certifiers.items():
                began = time.perf_counter()
                verdict = await one.certify(dataset.idx[position], labels[position], dataset.read(position))
                seconds[name].append(time.perf_counter() - began)
                samples[name].append(verdict.samples)
            print(f"\r{position + 1}/{len(dataset)}", end="", file=sys.stderr)
    finally:
        await backend.close()
    single = next(iter(certifiers))
    lines = ["| policy | mean samples | mean seconds | samples / one scale | time / one scale |", "| --- " * 5 + "|"]
    for name in certifiers:
        draws, took = statistics.mean(samples[name]), statistics.mean(seconds[name])
        lines.append(
            f"| {name} | {draws:.0f} | {took:.2f} | {draws / statistics.mean(samples[single]):.2f} | "
            f"{took / statistics.mean(seconds[single]):.2f} |"
        )
    return "\n\n".join(
        [
            f"{len(dataset)} images, policies in turn for each image, embedded backend "
            f"({sentence(machine()).rstrip('.')}). A pilot is {pilot_size(chunk)} draws. `best` from a file of votes "
            "draws what `first` does.",
            "\n".join(lines),
        ]
    )


def write(name: str, text: str, path: Path = RESULTS) -> None:
    """Replace what stands between the marks of `name` in a document of docs/."""
    document = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: written by the command -->\n", f"<!-- end of {name} -->"
    head, found, rest = document.partition(begin)
    _, ended, tail = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{path}: expected the marks {begin.strip()} and {end}")
    path.write_text(f"{head}{begin}\n{text}\n\n{end}{tail}", encoding="utf-8")
