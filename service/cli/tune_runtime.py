"""`certify tune-runtime`: which micro-batch and how many workers are fastest here, by trying them in turns.

Two races: micro-batches with all workers, then numbers of workers at the micro-batch that was chosen. In a race, every
candidate is timed once a round and the rounds go back and forth, so that a machine that slows down meanwhile slows all
of them. The default is kept unless another is clearly faster: micro-batches are part of what a vote depends on, and a
larger one computes more padding at the end of each look.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
import typer

from ...models.files import check_file, whole_file
from ...models.ranges import cut
from ..backends.base import Backend, BackendInfo
from ..errors import BackendUnavailable
from ..settings import ENV_PREFIX, Settings, load_settings
from .options import BundleOption
from .progress import Steps

__all__ = ("Race", "Tunable", "Tuned", "tune", "tune_runtime_command")

# A choice must show above what rounds differ by on a quiet machine, a few per cent.
CLEARLY = 0.05
# Micro-batches in chunks. At 32 samples a chunk: 32 to 256; beyond that a CPU's caches are full (docs/performance.md).
MULTIPLES = (1, 2, 4, 8)
# A GPU is only filled by more: 512 and 1024.
CUDA_MULTIPLES = (*MULTIPLES, 16, 32)
_clock = time.perf_counter


class Tunable(Backend, Protocol):
    """An embedded backend: it knows its threads."""

    @property
    def workers(self) -> int: ...


# (micro_batch, workers; None: the device's default) -> a backend, open. Raises BackendUnavailable.
Opener = Callable[[int | None, int | None], Awaitable[Tunable]]


@dataclass(frozen=True, kw_only=True)
class Race:
    """rates: samples a second, one a round, of each candidate. failed: why a candidate could not run."""

    what: str
    default: int
    rates: Mapping[int, Sequence[float]]
    failed: Mapping[int, str] = field(default_factory=dict)

    def ratio(self, candidate: int) -> float:
        """Median over the rounds of this candidate's rate over the default's in the same round."""
        pairs = zip(self.rates[candidate], self.rates[self.default], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    @property
    def chosen(self) -> int:
        best = max(self.rates, key=self.ratio)
        return best if self.ratio(best) > 1 + CLEARLY else self.default

    def markdown(self) -> str:
        lines = [f"| {self.what} | samples a second | of the default's |  |", "| --- | --- | --- | --- |"]
        for candidate in sorted({*self.rates, *self.failed}):
            if candidate in self.failed:
                lines.append(f"| {candidate} |  |  | {self.failed[candidate]} |")
                continue
            notes = [word for word, is_it in (("default", self.default), ("chosen", self.chosen)) if is_it == candidate]
            rate = statistics.median(self.rates[candidate])
            lines.append(f"| {candidate} | {rate:,.0f} | {self.ratio(candidate):.2f} | {', '.join(notes)} |")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What came of both races."""

    info: BackendInfo
    micro_batches: Race
    workers: Race

    def lines(self) -> str:
        """The file: comments and NAME=VALUE, as a shell, `docker --env-file` and a ConfigMap read it."""
        runtime = self.info.runtime
        values = {
            "DEVICE": runtime.device,
            "ENGINE": runtime.engine.partition("-")[
                0
            ],  # the setting, without what follows: openvino-graph-1 is openvino's
            "MICRO_BATCH": self.micro_batches.chosen,
            "WORKERS": self.workers.chosen,
        }
        return "\n".join(
            [
                f"# by certify tune-runtime, for bundle {self.info.bundle_name} ({self.info.bundle_digest})",
                "# Device, engine and micro-batch are part of what a vote depends on: all replicas must share them.",
                "# Workers are this machine's own: more or fewer of them change no vote.",
                *(f"{ENV_PREFIX}{name}={value}" for name, value in values.items()),
                "",
            ]
        )


async def tune(
    open_with: Opener,
    multiples: Sequence[int],
    *,
    rounds: int,
    seconds: float,
    steps: Steps,
    clock: Callable[[], float],
) -> Tuned:
    """multiples: micro-batches to try, in chunks. seconds, of `clock`: about how long each draws in each round.

    Raises BackendUnavailable or BundleError if the backend cannot be opened at its defaults.
    """
    steps.say("opening the bundle")
    first = await open_with(None, None)
    try:
        info, cores = first.info(), first.workers
        sizes = sorted({info.grain, *(info.chunk * multiple for multiple in multiples)})
        threads = sorted({cores, *(2**k for k in range(cores.bit_length()) if 2**k <= cores)})
        steps.begin((len(sizes) + len(threads)) * (rounds + 1))  # opening each is a step too
        race = partial(_race, rounds=rounds, seconds=seconds, steps=steps, clock=clock)
        micro_batches = await race(
            "micro-batch", {size: partial(open_with, size, cores) for size in sizes}, {info.grain: first}
        )
    finally:
        await first.close()
    chosen = micro_batches.chosen
    again = await open_with(chosen, cores)
    try:
        workers = await race("workers", {n: partial(open_with, chosen, n) for n in threads}, {cores: again})
    finally:
        await again.close()
    return Tuned(info=info, micro_batches=micro_batches, workers=workers)


async def _race(
    what: str,
    candidates: Mapping[int, Callable[[], Awaitable[Tunable]]],
    default: Mapping[int, Tunable],
    *,
    rounds: int,
    seconds: float,
    steps: Steps,
    clock: Callable[[], float],
) -> Race:
    """default: the one that is open already, and stays open."""
    running = dict(default)
    counts: dict[int, int] = {}
    failed: dict[int, str] = {}
    try:
        for candidate, open_it in candidates.items():
            steps.add(f"{what} {candidate}: opening")
            try:
                if candidate not in running:
                    running[candidate] = await open_it()
                counts[candidate] = await _count(running[candidate], seconds, clock)
            except BackendUnavailable as error:  # a micro-batch that is too large for the device's memory, say
                if candidate in default:
                    raise
                failed[candidate] = str(error)
        rates: dict[int, list[float]] = {candidate: [] for candidate in counts}
        for number in range(rounds):
            for candidate in list(counts) if number % 2 == 0 else reversed(counts):
                rate = counts[candidate] / await _time(running[candidate], counts[candidate], number, clock)
                rates[candidate].append(rate)
                steps.add(f"{what} {candidate}: {rate:,.0f} samples a second")
    finally:
        for candidate, backend in running.items():
            if candidate not in default:
                await backend.close()
    (key,) = default
    return Race(what=what, default=key, rates=rates, failed=failed)


async def _count(backend: Tunable, seconds: float, clock: Callable[[], float]) -> int:
    """Samples that take about `seconds`: as many whole micro-batches for each worker, so that none waits at the end."""
    step = backend.info().grain * backend.workers
    await _time(backend, step, 0, clock)  # warms up
    return max(1, round(seconds / await _time(backend, step, 0, clock))) * step


async def _time(backend: Tunable, count: int, seed: int, clock: Callable[[], float]) -> float:
    """Seconds that `count` samples take. At which scale, of which image, makes no difference to that."""
    info = backend.info()
    image = np.full(info.input_shape, 0.2, dtype=np.float32)
    sigma = info.sigmas[0]
    whole = info.whole(sigma)  # where samples are numbered, the same ones again and again
    most = count if whole is None else whole // info.chunk * info.chunk
    began = clock()
    for low, high in cut(0, count, most):
        await backend.count_votes(image, sigma=sigma, seed=seed, first=0, count=high - low)
    return clock() - began


def tune_runtime_command(
    bundle: BundleOption = None,
    engine: Annotated[str | None, typer.Option(help="auto, torch or openvino [CERTIFY_ENGINE, or auto].")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda [CERTIFY_DEVICE, or cpu].")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the settings here; they are printed in any case.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each candidate is timed.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="About how long each time.")] = 1.0,
) -> None:
    """Measure micro-batches and numbers of workers on this machine; print and write the settings for `certify serve`.

    The file takes effect by `set -a; . FILE; certify serve`, `docker run --env-file FILE` or as a ConfigMap
    (`kubectl create configmap NAME --from-env-file FILE`). Measure on an idle machine.

    Engine, device and micro-batch are part of what a vote depends on: the same request gets the same answer only from
    replicas that share them. Therefore tune once, on the machines that will serve, and give all replicas that one file.

    The default micro-batch is kept unless another is more than 5% faster.
    """
    if out is not None:
        check_file(out)
    flags = {"bundle": bundle, "engine": engine, "device": device}
    settings = load_settings(**{name: value for name, value in flags.items() if value is not None})
    multiples = CUDA_MULTIPLES if settings.device == "cuda" else MULTIPLES
    with Steps() as steps:
        work = tune(partial(_open, settings), multiples, rounds=rounds, seconds=seconds, steps=steps, clock=_clock)
        tuned = asyncio.run(work)
    typer.echo(f"{_heading(tuned)}\n")
    for race in (tuned.micro_batches, tuned.workers):
        typer.echo(f"{race.markdown()}\n\n{_verdict(race)}\n")
    typer.echo(tuned.lines(), nl=False)
    if out is not None:
        with whole_file(out) as fresh:
            fresh.write_text(tuned.lines(), encoding="utf-8")
        typer.echo(f"wrote {out}", err=True)


async def _open(settings: Settings, micro_batch: int | None, workers: int | None) -> Tunable:
    from ..backends.embedded import EmbeddedBackend

    backend = EmbeddedBackend(
        settings.bundle, device=settings.device, engine=settings.engine, micro_batch=micro_batch, workers=workers
    )
    await backend.open()
    return backend


def _heading(tuned: Tuned) -> str:
    runtime = tuned.info.runtime
    return f"bundle {tuned.info.bundle_name}, {runtime.engine} in {runtime.dtype} on {runtime.device}"


def _verdict(race: Race) -> str:
    best = max(race.rates, key=race.ratio)
    if race.chosen != race.default:
        return f"{race.what} {race.chosen}: {race.ratio(race.chosen) - 1:.0%} faster than the default, {race.default}."
    rest = "none is faster" if best == race.default else f"{best} is not more than {CLEARLY:.0%} faster"
    return f"{race.what} {race.default}, the default: {rest}."
