"""Where commands write, what they go on from, and how they say that they cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from certify.service.research.tables import read_table
from certify.service.research.votes_file import load_votes
from tests import pictures
from tests.cli.test_cli import certify
from tests.servers import ROOT
from tests.test_imports import BLOCK

FAKE = ("--backend=fake", "--seed=1", "--samples=640")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Six images of two of the fake backend's classes."""
    return str(pictures.class_folders(tmp_path / "data", images=6, classes=2))


def dataset(folder: str, out: Path, *arguments: str | Path) -> None:
    code, _, err = certify("dataset", folder, "--out", out, *FAKE, *arguments)
    assert code == 0, err


@pytest.mark.parametrize("place", ["/dev/full", "/dev/null", "folder", "fifo", "/dev/null/x"])
def test_no_command_writes_to_what_is_no_file(place: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    where, table, votes = tmp_path / place, tmp_path / "t.tsv", tmp_path / "v.npz"
    dataset(folder, table, "--votes", votes)
    commands: list[list[str | Path]] = [
        ["dataset", folder, "--out", where, *FAKE],
        ["dataset", folder, "--out", tmp_path / "other.tsv", "--votes", where, *FAKE],
        ["curve", table, "--out", where],
        ["tune", votes, "--out", where],
        ["tune-runtime", "--out", where],
    ]
    before = sorted(tmp_path.iterdir())
    for command in commands:
        code, out, err = certify(*command)
        assert code == 1 and not out and f"{where}: expected a file, or none yet" in err, command
    assert sorted(tmp_path.iterdir()) == before


def test_a_dash_is_no_file(folder: str) -> None:
    for command in (
        ["dataset", folder, "--out=-", *FAKE],
        ["gate", folder, "--junit=-", "--radius=0.1", "--at-least=0.5", *FAKE],
    ):
        code, out, err = certify(*command)
        assert code and not out and "-: expected a file's name" in err, command


def test_votes_and_table_are_two_files(folder: str, tmp_path: Path) -> None:
    for votes in (tmp_path / "t.tsv", tmp_path / "data" / ".." / "t.tsv.json"):
        code, _, err = certify("dataset", folder, "--out", tmp_path / "t.tsv", "--votes", votes, *FAKE)
        assert code == 1 and "votes: expected another file than the table's" in err
    assert not (tmp_path / "t.tsv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the parameters of a run, as JSON"),
        ('{"seed": 1', "expected the parameters of a run, as JSON"),
        ("[]", "expected the parameters of a run, as a JSON object, got list"),
        ('{"seed": "1"}', "seed: expected an integer, got '1'"),
        ('{"seed": true}', "seed: expected an integer, got True"),
    ],
)
def test_parameters_beside_a_table_that_cannot_be_read_are_refused_by_name(
    text: str, message: str, folder: str, tmp_path: Path
) -> None:
    dataset(folder, tmp_path / "t.tsv", "--limit=2")
    (tmp_path / "t.tsv.json").write_text(text)
    code, _, err = certify("dataset", folder, "--out", tmp_path / "t.tsv", "--backend=fake", "--samples=640")
    assert code == 1 and f"{tmp_path / 't.tsv.json'}: {message}" in err
    dataset(folder, tmp_path / "t.tsv")  # whoever knows the seed goes on
    assert len(read_table(tmp_path / "t.tsv")) == 6
    assert json.loads((tmp_path / "t.tsv.json").read_text())["seed"] == 1


def test_shards_votes_are_kept_in_one_file_or_joined_from_several(folder: str, tmp_path: Path) -> None:
    dataset(folder, tmp_path / "t.tsv", "--votes", tmp_path / "whole.npz")
    for shard in (1, 2):
        dataset(folder, tmp_path / f"s{shard}.tsv", f"--shard={shard}/2", "--votes", tmp_path / "one.npz")
        dataset(folder, tmp_path / f"a{shard}.tsv", f"--shard={shard}/2", "--votes", tmp_path / f"v{shard}.npz")
    whole, one = load_votes(tmp_path / "whole.npz"), load_votes(tmp_path / "one.npz")
    assert whole.idx.tolist() == one.idx.tolist() == list(range(6)) and np.array_equal(whole.votes, one.votes)
    several = [tmp_path / "v1.npz", tmp_path / "v2.npz"]
    for options in ([], ["--threshold=0.6"]):
        shown = [certify("curve", *paths, *options) for paths in ([tmp_path / "whole.npz"], several)]
        assert shown[0] == shown[1] and shown[0][0] == 0
    shown = [certify("tune", *paths, "--shared") for paths in ([tmp_path / "whole.npz"], several)]
    assert shown[0][1] == shown[1][1] and shown[0][0] == 0
    for command in ("curve", "tune"):
        code, _, err = certify(command, tmp_path / "v1.npz")
        assert code == 0 and err.count("missing: ") == 2 and "missing: not there, or not whole: shard 2/2\n" in err
        assert "votes of 3 of 6 images" in err
    code, _, err = certify("curve", tmp_path / "v1.npz", tmp_path / "t.tsv")
    assert code == 1 and "expected tables only, or files of votes only" in err
    code, _, err = certify("tune", tmp_path / "v1.npz", "--judge", tmp_path / "v2.npz", "--judge", tmp_path / "v1.npz")
    assert code == 1 and "some are in both files" in err


@pytest.mark.slow
def test_a_part_that_a_kill_cut_is_drawn_again(folder: str, tmp_path: Path) -> None:
    (Path(folder) / "1" / "5.png").write_bytes(pictures.png(size=(9, 9)))  # the last: no file of votes comes
    code, _, err = certify("dataset", folder, "--out", tmp_path / "t.tsv", "--votes", tmp_path / "v.npz", *FAKE)
    assert code == 1 and "image 5" in err
    part = tmp_path / "v.npz.parts" / "2.npz"
    part.write_bytes(part.read_bytes()[:100])
    dataset(folder, tmp_path / "t.tsv", "--votes", tmp_path / "v.npz", "--limit=5")
    dataset(folder, tmp_path / "once.tsv", "--votes", tmp_path / "once.npz", "--limit=5")
    assert np.array_equal(load_votes(tmp_path / "v.npz").votes, load_votes(tmp_path / "once.npz").votes)


def run(*command: str, limit: str = "") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "certify", *command]
    shell = ["bash", "-c", f'{limit}exec "$@"', "bash", *line]
    return subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_row_for_which_there_is_no_room_is_an_error_in_words_and_the_run_goes_on_later(
    folder: str, tmp_path: Path
) -> None:
    """No file may grow above four KiB, more than the facts beside the table: the kernel refuses as on a full disk."""
    for number in range(60):
        (Path(folder) / "0" / f"more{number}.png").write_bytes(pictures.png(seed=number))
    out = tmp_path / "t.tsv"
    done = run("dataset", folder, "--out", str(out), *FAKE, limit="ulimit -f 4; ")
    assert done.returncode == 1 and f"error: {out}: expected a file that can be written: " in done.stderr
    assert "Traceback" not in done.stderr
    assert out.stat().st_size == 4096  # in the middle of a row
    dataset(folder, out)
    assert len(read_table(out)) == 66


@pytest.mark.slow
def test_a_service_that_cannot_begin_says_why_in_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{")
    for bundle in ("nowhere", str(tmp_path)):
        done = run("serve", "--bundle", bundle, "--port", "0")
        last = json.loads((done.stdout + done.stderr).splitlines()[-1])
        assert done.returncode == 2
        assert last["message"] == "cannot serve" and last["error"].startswith(f"CERTIFY_BUNDLE: {bundle}")
        assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_setting_that_is_found_wrong_while_it_starts_leaves_no_traceback(tmp_path: Path) -> None:
    long = 300 * "a"
    for name, value in (
        ("api-keys-file", tmp_path),
        ("budget-storage", "redis://h:x"),
        ("host", long),
        ("host", "a..b"),
    ):
        done = run("serve", "--backend=fake", "--port=0", f"--{name}", str(value))
        last = json.loads((done.stdout + done.stderr).splitlines()[-1])
        key = f"CERTIFY_{name.upper().replace('-', '_')}".replace("CERTIFY_HOST", "CERTIFY_HTTP_HOST")
        assert done.returncode == 2 and last["error"].startswith(key), done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    code, _, err = certify("serve", "--port", 5000 * "9")
    assert code == 2 and "CERTIFY_HTTP_PORT" in err and len(err) < 500


@pytest.mark.slow
def test_without_an_engine_each_command_says_what_to_install(tmp_path: Path) -> None:
    code = f"{BLOCK}\nfrom certify.service.cli.main import app\napp()"
    (tmp_path / "0").mkdir()
    picture = tmp_path / "0" / "a.png"
    picture.write_bytes(pictures.png())
    commands = (
        ["serve", "--port=0"],
        ["image", str(picture)],
        ["dataset", str(tmp_path), "--out", str(tmp_path / "t.tsv")],
        ["tune-runtime"],
    )
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        last = (done.stdout + done.stderr).splitlines()[-1]
        assert done.returncode == 1 and "pip install 'certify[cpu]'" in last, command
