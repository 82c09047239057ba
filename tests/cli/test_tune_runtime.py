"""service.cli.tune_runtime on backends whose speed is what a test says, by a clock that only they move."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.cli import tune_runtime
from certify.service.cli.progress import Steps
from certify.service.cli.tune_runtime import MULTIPLES, Race, Tuned, tune
from certify.service.errors import BackendUnavailable
from certify.service.settings import load_settings
from tests.cli.test_cli import certify

CORES = 4


class Timed(FakeBackend):
    """Takes count / rate(micro_batch, workers) seconds of a clock of its own making."""

    def __init__(self, bench: Bench, micro_batch: int, workers: int) -> None:
        super().__init__(dataclasses.replace(FAKE_INFO, grain=micro_batch))
        self.bench, self.workers, self.closed = bench, workers, False

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        assert not self.closed
        self.bench.now += count / self.bench.rate(self.info().grain, self.workers)
        self.bench.timed.append((self.info().grain, self.workers))
        return await super().count_votes(image, sigma=sigma, seed=seed, first=first, count=count)

    async def close(self) -> None:
        self.closed = True


class Bench:
    """An opener, and what it opened. The device's default micro-batch is 64."""

    def __init__(self, rate: Callable[[int, int], float], *, largest: int = 10**6) -> None:
        self.rate, self.largest, self.now = rate, largest, 0.0
        self.opened: list[Timed] = []
        self.timed: list[tuple[int, int]] = []

    async def open(self, micro_batch: int | None, workers: int | None) -> Timed:
        if (micro_batch or 64) > self.largest:
            raise BackendUnavailable("out of memory")
        self.opened.append(Timed(self, micro_batch or 64, workers or CORES))
        return self.opened[-1]

    def tune(self, *, rounds: int = 3) -> Tuned:
        with Steps() as steps:
            work = tune(self.open, MULTIPLES, rounds=rounds, seconds=1.0, steps=steps, clock=lambda: self.now)
            return asyncio.run(work)


def test_a_micro_batch_that_is_clearly_faster_is_chosen_and_the_workers_at_that_one() -> None:
    bench = Bench(lambda size, workers: (1000 + size) * (2 if workers == 2 else 1))
    tuned = bench.tune()
    assert tuned.micro_batches.rates.keys() == {32, 64, 128, 256}
    assert tuned.micro_batches.chosen == 256
    assert tuned.workers.rates.keys() == {1, 2, 4}
    assert tuned.workers.chosen == 2
    assert tuned.micro_batches.ratio(256) == pytest.approx(1256 / 1064)
    assert {size for size, _ in bench.timed[-9:]} == {256}


def test_the_defaults_are_kept_unless_another_is_clearly_faster() -> None:
    """4% is not; a machine of one speed keeps its defaults."""
    tuned = Bench(lambda size, workers: 1040 if size == 128 or workers == 1 else 1000).tune()
    assert (tuned.micro_batches.chosen, tuned.workers.chosen) == (64, CORES)
    assert tuned.micro_batches.ratio(128) == pytest.approx(1.04)


def test_rounds_go_back_and_forth_over_whole_micro_batches_for_each_worker() -> None:
    bench = Bench(lambda size, workers: 1000)
    bench.tune(rounds=2)
    sizes = [size for size, _ in bench.timed[8:16]]  # after two to warm up each of four
    assert sizes == [32, 64, 128, 256, 256, 128, 64, 32]


def test_a_machine_that_slows_down_for_one_round_moves_no_choice() -> None:
    bench = Bench(lambda size, workers: 1000 * (0.1 if len(bench.timed) in range(12, 16) else 1.0))
    tuned = bench.tune(rounds=3)
    assert min(tuned.micro_batches.rates[64]) < 200
    assert tuned.micro_batches.chosen == 64


def test_a_micro_batch_that_does_not_fit_is_left_out_with_its_reason() -> None:
    tuned = Bench(lambda size, workers: 1000 + size, largest=128).tune()
    assert tuned.micro_batches.chosen == 128
    assert "| 256 |  |  | out of memory |" in tuned.micro_batches.markdown()


def test_a_backend_that_cannot_run_at_its_default_is_an_error() -> None:
    with pytest.raises(BackendUnavailable):
        Bench(lambda size, workers: 1000, largest=32).tune()


def test_everything_that_was_opened_is_closed_whatever_happens() -> None:
    calm = Bench(lambda size, workers: 1000)
    calm.tune()

    def breaks(size: int, workers: int) -> float:
        if len(broken.timed) > 10:
            raise RuntimeError("the machine caught fire")
        return 1000

    broken = Bench(breaks)
    with pytest.raises(RuntimeError, match="fire"):
        broken.tune()
    assert len(broken.opened) == 4
    assert all(backend.closed for backend in (*calm.opened, *broken.opened))


def test_the_table_names_the_default_and_the_choice() -> None:
    race = Race(what="micro-batch", default=64, rates={64: [100.0, 100.0], 128: [120.0, 110.0]})
    assert race.markdown().splitlines()[2:] == ["| 64 | 100 | 1.00 | default |", "| 128 | 115 | 1.15 | chosen |"]


def installed(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """For the command itself."""

    async def open_it(settings: object, micro_batch: int | None, workers: int | None) -> Timed:
        return await bench.open(micro_batch, workers)

    monkeypatch.setattr(tune_runtime, "_open", open_it)
    monkeypatch.setattr(tune_runtime, "_clock", lambda: bench.now)


def test_the_file_is_what_a_shell_takes_and_the_settings_understand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command itself; the fake's engine and device are none that could be served, so they are replaced."""
    installed(monkeypatch, Bench(lambda size, workers: 1000 + size))
    file = tmp_path / "runtime.env"
    code, out, err = certify("tune-runtime", "--out", file, "--rounds=1", "--seconds=0.1")
    assert code == 0, err
    text = file.read_text()
    assert out.endswith(text)
    assert "all replicas must share" in text
    text = text.replace("ENGINE=fake", "ENGINE=torch").replace("DEVICE=none", "DEVICE=cpu")
    file.write_text(text)
    path = os.environ["PATH"]
    shell = subprocess.run(
        ["sh", "-c", f"set -a; . '{file}'; env"], capture_output=True, text=True, check=True, env={"PATH": path}
    )
    for name, value in (line.split("=", 1) for line in shell.stdout.splitlines() if line.startswith("CERTIFY_")):
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.engine, settings.device, settings.micro_batch, settings.workers) == ("torch", "cpu", 256, CORES)


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, Bench(lambda size, workers: 1000))
    (tmp_path / "file").touch()
    code, out, err = certify("tune-runtime", "--out", tmp_path / "file" / "deep", "--rounds=1", "--seconds=0.01")
    assert code == 1 and not out
    assert "deep: expected a file, or none yet: Not a directory" in err
    code, out, _ = certify("tune-runtime", "--out", tmp_path / "new" / "file", "--rounds=1", "--seconds=0.01")
    assert code == 0 and (tmp_path / "new" / "file").read_text() in out
