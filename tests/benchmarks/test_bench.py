"""What the benchmarks compute and where they write; how fast anything is, no test says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the benchmarks measure the network (pip install 'certify[torch]')")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn (pip install 'certify[train]')")
pytest.importorskip("matplotlib", reason="draws (pip install 'certify[plot]')")

from benchmarks import answers, chart, clients, gpu, overhead, peak, report, run
from benchmarks.crowd import crowd
from benchmarks.tables import PERFORMANCE
from certify.models.datasets import open_dataset
from certify.service.backends.fake import FakeBackend


def test_every_table_that_a_command_writes_has_its_place_in_the_document():
    document = PERFORMANCE.read_text()
    bundles = [f"{table}-{bundle}" for table in ("answers", "agreement") for bundle in ("digits", "cifar10")]
    bundles += [f"agreement-float32-{bundle}" for bundle in ("digits", "fashion", "cifar10")]
    for name in (*run.PARTS, *bundles, "chart", "gpu", "imagenet"):
        begin, end = f"<!-- {name}: written by the command -->\n", f"<!-- end of {name} -->"
        assert document.count(begin) == document.count(end) == 1, name
        assert document.index(begin) < document.index(end)


def test_each_client_asks_again_until_the_time_is_over_and_at_least_once():
    numbers: list[int] = []
    running = 0

    async def ask(number: int) -> None:
        nonlocal running
        running += 1
        assert running <= 3
        await asyncio.sleep(0)
        running -= 1
        numbers.append(number)

    spell = asyncio.run(crowd(ask, clients=3, seconds=0.0))
    assert sorted(numbers) == [0, 1, 2]
    assert len(spell.seconds) == 3
    assert spell.rate > 0
    numbers.clear()
    spell = asyncio.run(crowd(ask, clients=3, seconds=0.05))
    assert sorted(numbers) == list(range(len(numbers)))
    assert len(spell.seconds) == len(numbers) >= 3


def test_what_an_ask_raises_ends_the_spell():
    async def ask(number: int) -> None:
        raise ValueError("refused")

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        asyncio.run(crowd(ask, clients=2, seconds=60.0))


@pytest.fixture(scope="module")
def answered() -> dict:
    """Of the fake, whose classes are the digits' too."""
    work = answers.measure(
        "digits", FakeBackend(), open_dataset("digits").part(limit=5), reference_rate=1000.0, seconds=0.0
    )
    return asyncio.run(work)


def test_the_references_seconds_are_its_draws_over_its_loops_rate(answered: dict):
    row = answered["rows"]["reference"]
    assert answered["images"] == 2  # as many as are always done, though the time was over
    assert row["samples"] * 2 % 10_112 == 0  # 128 to choose and 9,984 to estimate, in chunks, at each scale visited
    assert row["seconds"] == row["samples"] / 1000.0
    assert row["gain"] == 1


def test_gains_are_against_the_reference_and_answers_stay_within_their_samples(answered: dict):
    rows = answered["rows"]
    for name, row in rows.items():
        assert row["gain"] == pytest.approx(rows["reference"]["seconds"] / row["seconds"])
        assert row["accuracy"]["0"] >= row["accuracy"]["0.25"] >= row["accuracy"]["1"] >= 0, name
    assert rows["best, 3,000 samples"]["samples"] <= 3_000
    assert rows["best, radius 0.25"]["samples"] <= rows["best, 10,000 samples"]["samples"] <= 10_000


def test_a_table_of_answers_says_of_how_many_at_which_alpha_in_what_and_how_sure_it_is(answered: dict):
    text = answers.text("digits", answered)
    assert "over n = 2 held-out images, alpha = 0.001, in numpy-multinomial-v2 none fake float64;" in text
    low, high = answered["rows"]["reference"]["accuracy_interval"]["0"]
    assert 0 <= low <= answered["rows"]["reference"]["accuracy"]["0"] <= high <= 1 and high - low > 0.5  # of two images
    (row,) = (line for line in text.splitlines() if line.startswith("| best, 10,000 samples"))
    assert row.count(" to ") == len(answers.RADII) + 1 and "95% intervals" in text


def test_an_answer_that_stops_at_a_radius_says_nothing_of_larger_ones(answered: dict):
    lines = {line.split(" | ")[0]: line.split(" | ") for line in answers.text("digits", answered).splitlines()}
    cells = lines["| best, radius 0.25"]
    assert cells[4] and cells[5]  # at 0 and 0.25
    assert not any(cell.strip(" |") for cell in cells[6:])


def test_the_chart_has_what_was_measured_and_draws_the_same_twice(answered: dict, tmp_path: Path):
    figures = {"machine": {"processor": "a machine", "cores": "2"}, "answers": {"digits": answered}, "clients": None}
    first, second = (chart.draw(figures, tmp_path / name / "bench.png") for name in ("a", "b"))
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert first[1].read_bytes() == second[1].read_bytes()
    assert chart.draw({"machine": {}}, tmp_path / "nothing.png") == []


def test_shares_are_of_the_peak_in_the_dtype_that_ran():
    peaks = {"float32": {"matmul": 100.0, "convolution": 200.0}, "bfloat16": {"matmul": 1000.0, "convolution": 400.0}}
    shown = peak.share_text([("digits", "bfloat16", 10.0, 20_000.0)], peaks)
    assert "| digits | bfloat16 | 10.0 | 20,000 | 200 | 20% | 50% |" in shown


def test_a_median_stands_before_its_rounds():
    assert report.spread([3.0, 1.0, 2.5]) == "2.50 (1.00 to 3.00)"
    assert report.spread([0.25], "{:.0%}") == "25%"


def test_the_service_adds_what_is_over_its_bare_draws():
    figures = {
        "http_seconds": [1.1], "bare_seconds": [1.0], "added": [0.1], "outside": [0.02], "used": [9984],
    }  # fmt: skip
    shown = overhead.text(figures, 0.005)
    assert "+10.00%" in shown
    assert "+0.50% (5.0 ms)" in shown


def test_a_triton_that_cannot_run_is_named_with_its_reason():
    measured = {"answers_a_second": [5.0], "p50": [0.2], "p95": [0.4]}
    figures = {"radius": 0.25, "backends": {"embedded": {"1": measured, "32": measured}}, "skipped": "no wheel"}
    shown = clients.text(figures)
    assert "Triton was left out: no wheel." in shown
    assert shown.index("| 1 | embedded") < shown.index("| 32 | embedded")


def test_no_figure_of_a_cpu_is_written_as_a_gpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", "--write"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "takes no GPU's figures from a CPU" in capsys.readouterr().err


def test_without_a_cuda_device_the_gpu_bench_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["gpu"])
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main()
    assert "expected a CUDA device" in capsys.readouterr().err


def test_a_part_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["run", "--parts", "throughput,speed"])
    with pytest.raises(SystemExit):
        run.main()
    assert "got speed" in capsys.readouterr().err


def test_a_part_that_fails_takes_nothing_from_those_before_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    async def breaks(*arguments: object) -> None:
        *_, figures, texts = arguments
        figures["peak"], texts["peak"] = {"gflops": 1}, "a table"
        raise RuntimeError("the service was not ready")

    monkeypatch.setattr(run, "bench", breaks)
    monkeypatch.setattr("sys.argv", ["run", "--json", str(tmp_path / "bench.json")])
    with pytest.raises(RuntimeError, match="not ready"):
        run.main()
    assert json.loads((tmp_path / "bench.json").read_text())["peak"] == {"gflops": 1}


def test_figures_are_saved_as_json_in_a_folder_made_for_them(tmp_path: Path):
    report.save({"a": [1.5]}, tmp_path / "new" / "bench.json")
    assert json.loads((tmp_path / "new" / "bench.json").read_text()) == {"a": [1.5]}
