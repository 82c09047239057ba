"""`certify dataset`, `curve` and `tune`, as a researcher uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from certify.service.answering.driver import CallLimits
from certify.service.answering.plans import make_plan
from certify.service.answering.schemas import CertifyFields
from certify.service.backends.fake import FakeBackend
from certify.service.errors import BackendUnavailable
from certify.service.research.curves import curves_of_votes
from certify.service.research.fixed_budget import FixedSampler
from certify.service.research.policies import POLICIES
from certify.service.research.tables import read_table
from certify.service.research.votes_file import load_votes
from tests import pictures
from tests.cli.test_cli import certify
from tests.servers import ROOT, real_process

FAKE = ("--backend=fake", "--seed=1")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Twelve images of three of the fake backend's classes."""
    return str(pictures.class_folders(tmp_path / "data", images=12, classes=3))


def rows(path: Path) -> list[str]:
    """Without the time, which is no part of an answer."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return ["\t".join(cells[:5] + cells[6:]) for cells in lines]


def dataset(folder: str, out: Path, *arguments: str) -> str:
    code, shown, err = certify("dataset", folder, "--out", out, *FAKE, *arguments)
    assert code == 0, err
    return shown


@pytest.mark.parametrize("policy", POLICIES)
def test_a_row_is_the_same_again_whatever_the_jobs(policy: str, folder: str, tmp_path: Path) -> None:
    arguments = ["--samples=640", f"--policy={policy}", *(["--sigmas=0.25"] if policy == "single" else [])]
    dataset(folder, tmp_path / "a.tsv", *arguments)
    dataset(folder, tmp_path / "b.tsv", *arguments, "--jobs=4")
    assert rows(tmp_path / "a.tsv") == rows(tmp_path / "b.tsv")
    assert len(read_table(tmp_path / "a.tsv")) == 12


def test_best_answers_as_certify_image_does(folder: str, tmp_path: Path) -> None:
    dataset(folder, tmp_path / "a.tsv", "--limit=3")
    files = sorted(Path(folder).glob("0/*.png"))[:3]
    code, out, _ = certify("image", *files, *FAKE, "--json")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    table = read_table(tmp_path / "a.tsv")
    assert [a["radius"] for a in answers] == table.radius.tolist()
    assert [-1 if a["label"] is None else a["label"]["index"] for a in answers] == table.predict.tolist()


def test_the_shards_are_the_whole_and_make_one_curve(folder: str, tmp_path: Path) -> None:
    dataset(folder, tmp_path / "whole.tsv")
    for shard in (1, 2, 3):
        dataset(folder, tmp_path / f"s{shard}.tsv", f"--shard={shard}/3")
    parts = [rows(tmp_path / f"s{shard}.tsv") for shard in (1, 2, 3)]
    assert {line for part in parts for line in part} == set(rows(tmp_path / "whole.tsv"))
    assert [len(part) for part in parts] == [5, 5, 5]
    code, out, _ = certify("curve", *(tmp_path / f"s{shard}.tsv" for shard in (1, 2, 3)), "--json")
    together = json.loads(out)
    _, out, _ = certify("curve", tmp_path / "whole.tsv", "--json")
    assert code == 0 and {**together, "name": ""} == {**json.loads(out), "name": ""}


def test_a_table_goes_on_and_keeps_its_seed(folder: str, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.tsv", tmp_path / "t.tsv"
    code, _, _ = certify("dataset", folder, "--out", out, "--backend=fake", "--limit=5")  # a random seed
    assert code == 0
    before = out.read_text()
    code, _, _ = certify("dataset", folder, "--out", out, "--backend=fake")
    assert code == 0 and out.read_text().startswith(before) and len(read_table(out)) == 12
    seed = json.loads((tmp_path / "t.tsv.json").read_text())["seed"]
    certify("dataset", folder, "--out", whole, "--backend=fake", f"--seed={seed}")
    assert rows(whole) == rows(out)


@pytest.mark.slow
def test_a_killed_run_loses_and_repeats_nothing(folder: str, tmp_path: Path) -> None:
    out, votes = tmp_path / "t.tsv", tmp_path / "v.npz"
    arguments = ["--samples=640", f"--votes={votes}"]
    command = [sys.executable, "-m", "certify", "dataset", folder, "--out", str(out), *FAKE, *arguments]
    environment = {**os.environ, "CERTIFY_FAKE_DELAY_SECONDS": "0.1"}
    kills = 0
    while True:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        had = len(out.read_text().splitlines()) if out.exists() else 0
        while process.poll() is None and (not out.exists() or len(out.read_text().splitlines()) < max(2, had + 3)):
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0 and kills >= 2
    dataset(folder, tmp_path / "once.tsv", "--samples=640", f"--votes={tmp_path / 'once.npz'}")
    assert rows(out) == rows(tmp_path / "once.tsv")
    ours, theirs = load_votes(votes), load_votes(tmp_path / "once.npz")
    assert np.array_equal(ours.votes, theirs.votes) and np.array_equal(ours.idx, theirs.idx)
    assert not (tmp_path / "v.npz.parts").exists()


def test_votes_give_the_rows_of_every_policy(folder: str, tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    for policy in ("best", "first", "reference", "max-radius"):
        dataset(folder, tmp_path / f"{policy}.tsv", "--samples=1280", f"--policy={policy}", f"--votes={path}")
    votes = load_votes(path)
    assert votes.votes.shape == (12, 3, 1280 // votes.chunk, 10)
    assert votes.pilot.sum(axis=2).min() >= 100 and votes.split == "all" and votes.seed == 1
    curves = {curve.name: curve for curve in curves_of_votes(votes)}
    for policy in ("best", "first", "reference", "max-radius"):
        table = read_table(tmp_path / f"{policy}.tsv")
        assert table.radius.tolist() == curves[policy].radius.tolist()
        assert table.samples is not None and curves[policy].samples is not None
        assert table.samples.tolist() == curves[policy].samples.tolist()
        assert (table.predict == -1).tolist() == curves[policy].abstained.tolist()
    # The reference that really skips scales draws the same votes at those it visits.
    dataset(folder, tmp_path / "skips.tsv", "--samples=1280", "--policy=reference")
    skipping, all_there = read_table(tmp_path / "skips.tsv"), read_table(tmp_path / "reference.tsv")
    assert skipping.radius.tolist() == all_there.radius.tolist()
    assert skipping.samples is not None and all_there.samples is not None
    assert skipping.samples.tolist() == all_there.samples.tolist()


def test_the_curve_is_what_pandas_computes(folder: str, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    dataset(folder, tmp_path / "t.tsv")
    _, out, _ = certify("curve", tmp_path / "t.tsv", "--json", "--radii=0,0.1,0.25,0.5")
    found = json.loads(out)
    frame = pandas.read_csv(tmp_path / "t.tsv", delimiter="\t")
    assert 0 < frame["correct"].sum() < 12  # otherwise this shows nothing
    for radius, accuracy in found["certified_accuracy"].items():
        assert accuracy == (frame["correct"] & (frame["radius"] >= float(radius))).mean()
    assert found["acr"] == pytest.approx((frame["correct"] * frame["radius"]).mean(), abs=1e-12)
    assert found["abstained"] == (frame["predict"] == -1).mean()


def test_curve_draws_both_pictures(folder: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    dataset(folder, tmp_path / "t.tsv", "--limit=4")
    code, out, _ = certify("curve", tmp_path / "t.tsv", "--out", tmp_path / "c.png")
    assert code == 0 and "| ACR |" in out
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "c.svg").read_text()
    first = (tmp_path / "c.svg").read_bytes()
    certify("curve", tmp_path / "t.tsv", "--out", tmp_path / "c.png")
    assert (tmp_path / "c.svg").read_bytes() == first  # the same curves, the same file


def test_tune_chooses_and_its_choice_is_worth_what_it_says(folder: str, tmp_path: Path) -> None:
    votes = tmp_path / "v.npz"
    dataset(folder, tmp_path / "t.tsv", "--samples=1280", f"--votes={votes}")
    for arguments in ([], ["--target=0.25"], ["--shared"], ["--final=threshold", "--shared"]):
        code, out, err = certify("tune", votes, *arguments)
        assert code == 0, err
        _, _, chosen = out.partition("chosen: --threshold ")
        thresholds, final = chosen.split()[0], chosen.split()[2]
        _, again, _ = certify("curve", votes, f"--threshold={thresholds}", f"--final={final}", "--json")
        best = next(each for line in again.splitlines() if (each := json.loads(line))["name"] == "best")
        first = out.split("the choice, on")[1].splitlines()[4]
        assert f"{best['acr']:.4f}" in first and first.startswith(f"| {thresholds} |")


def test_tune_refuses_what_it_is_judged_by(folder: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    votes = tmp_path / "held_out.npz"
    code, _, err = certify(
        "dataset", "digits", "--out", tmp_path / "d.tsv", *FAKE, "--samples=640", "--limit=2", f"--votes={votes}"
    )
    assert code == 0, err
    code, _, err = certify("tune", votes)
    assert code == 1 and "expected a validation split" in err
    dataset(folder, tmp_path / "a.tsv", "--samples=640", f"--votes={tmp_path / 'a.npz'}", "--limit=6")
    code, _, err = certify("tune", tmp_path / "a.npz", "--judge", tmp_path / "a.npz")
    assert code == 1 and "some are in both files" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy=worst"], "policy: expected one of best, first"),
        (["--policy=single"], "single is for one sigma"),
        (["--policy=first", "--radius=0.5"], "radius: expected none"),
        (["--policy=first", "--radius=0.5", "--deadline-ms=9"], "radius, deadline_ms: expected none"),
        (["--shard=3"], "shard: expected i/n"),
        (["--shard=3/2"], "1 <= i <= n"),
        (["--limit=0"], "limit: expected at least 1"),
        (["--samples=32"], "samples: expected at least"),
        (["--part=tune"], "part: expected none, since data has no parts"),
        (["--resize=fit"], "resize: expected squash or center-crop, got 'fit'"),
        (["--url=http://127.0.0.1:9", "--policy=first"], "beside --url"),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_is_written(
    arguments: list[str], message: str, folder: str, tmp_path: Path
) -> None:
    fake = [] if arguments[0].startswith("--url") else FAKE
    code, _, err = certify("dataset", folder, "--out", tmp_path / "t.tsv", *fake, *arguments)
    assert code == 1 and message in err
    assert not (tmp_path / "t.tsv").exists()


def test_images_of_another_size_end_the_run_and_the_rows_before_them_stay(folder: str, tmp_path: Path) -> None:
    (Path(folder) / "0" / "3.png").write_bytes(pictures.png(size=(9, 8)))
    code, _, err = certify("dataset", folder, "--out", tmp_path / "t.tsv", *FAKE)
    assert code == 1 and "data, image 1: image: expected 8 x 8 pixels, got 9 x 8" in err
    assert len(read_table(tmp_path / "t.tsv")) == 1


def test_votes_of_other_parameters_are_refused(folder: str, tmp_path: Path) -> None:
    votes = tmp_path / "v.npz"
    dataset(folder, tmp_path / "a.tsv", "--samples=640", f"--votes={votes}", "--limit=2")
    code, _, err = certify("dataset", folder, "--out", tmp_path / "b.tsv", *FAKE, "--samples=1280", f"--votes={votes}")
    assert code == 1 and "samples: expected 1280, got 640" in err
    dataset(folder, tmp_path / "a.tsv", "--samples=640", f"--votes={votes}")  # more images of the same
    assert len(load_votes(votes).idx) == 12


def test_an_image_whose_deadline_comes_too_early_is_an_abstention(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTIFY_FAKE_DELAY_SECONDS", "3600")
    dataset(folder, tmp_path / "t.tsv", "--limit=2", "--deadline-ms=20")
    header, *lines = [line.split("\t") for line in (tmp_path / "t.tsv").read_text().splitlines()]
    table = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["predict"] for row in table] == ["-1", "-1"]
    assert {(row["outcome"], row["reason"], row["samples"], row["plain"]) for row in table} == {
        ("abstained", "deadline", "0", "")
    }
    assert json.loads((tmp_path / "t.tsv.json").read_text())["deadline_ms"] == 20


@pytest.mark.slow
def test_over_http_the_rows_are_the_services_answers(folder: str, tmp_path: Path) -> None:
    with real_process(tmp_path / "log") as service:
        code, _, err = certify(
            "dataset", folder, "--out", tmp_path / "t.tsv", "--url", service.url, "--samples=640", "--jobs=3"
        )
        assert code == 0, err
        answer = certify("image", "--url", service.url, "--samples=640", "--json", Path(folder) / "0" / "0.png")
    table = read_table(tmp_path / "t.tsv")
    assert len(table) == 12
    assert json.loads(answer[1])["radius"] == table.radius[0]
    facts = json.loads((tmp_path / "t.tsv.json").read_text())
    assert facts["url"] == service.url and facts["bundle_digest"].startswith("sha256:")


@pytest.mark.anyio
async def test_a_backend_that_fails_is_an_error_in_words() -> None:
    backend = FakeBackend()
    sampler = FixedSampler(
        backend=backend,
        image=np.zeros((1, 8, 8), dtype=np.float32),
        plan=make_plan(CertifyFields(samples=640), backend.info(), max_samples_allowed=100_000),
        seed_of=lambda purpose, sigma: 1,
        limits=CallLimits(samples=64, seconds=10),
    )
    assert (await sampler.everything()).votes.shape == (3, 20, 10)
    backend.failing = True
    with pytest.raises(BackendUnavailable, match="told to fail"):
        await sampler.everything()
