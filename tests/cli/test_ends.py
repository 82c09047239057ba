"""How commands end when the world around them does not play along: files without an end, standard output that is full
or closed, names that are no text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pictures
from tests.cli.test_cli import certify
from tests.cli.test_places import FAKE, dataset
from tests.servers import ROOT

GATE = ("--backend=fake", "--samples=640", "--radius=0.1", "--at-least=0.5")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Six images of two of the fake backend's classes."""
    return str(pictures.class_folders(tmp_path / "data", images=6, classes=2))


def certificate() -> str:
    return str(next(iter(sorted((ROOT / "tests/golden/certificates").glob("valid*.json")))))


def run(*arguments: str | bytes | Path, shell: str = '"$@"') -> subprocess.CompletedProcess[str]:
    """certify in a process of its own. shell: what bash does with it."""
    line = [sys.executable, "-m", "certify", *map(os.fsdecode, arguments)]
    return subprocess.run(["bash", "-c", shell, "bash", *line], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("endless", ["/dev/zero", "huge"])
def test_a_file_that_does_not_end_is_refused_in_words(endless: str, folder: str, tmp_path: Path) -> None:
    """Its bytes are bounded, and a size that is known is told before any is read."""
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(2**36)  # of holes
    path, one = tmp_path / endless, certificate()
    commands: list[list[str | Path]] = [
        ["curve", path],
        ["verify", one, "--key", path],
        ["verify", one, "--image", path],
        ["reveal", one, "--seed-key-file", path],
        ["keys", "public", path],
        ["image", path, "--backend=fake"],
        ["image", f"{folder}/0/0.png", "--url=http://127.0.0.1:9", "--key-file", path],
        ["gate", folder, "--policy", path, *GATE],
        ["bundles", "pack", "--classifier-url=http://x", "--sigmas=1", f"--remote=@{path}", f"--out={tmp_path / 'b'}"],
    ]
    if endless == "/dev/zero":  # a quarter of a GiB of it is read where tables and pictures may be so large
        commands = [command for command in commands if command[0] not in ("curve", "image")]
    for command in commands:
        code, out, err = certify(*command)
        assert code in (1, 2, 3) and "bytes" in (out + err), command
        assert code != 1 or command[0] not in ("verify", "gate"), command  # 1 would be a verdict


@pytest.mark.parametrize("flag", ["--key", "--image"])
def test_what_a_certificate_is_checked_with_and_cannot_be_read_is_no_verdict(flag: str, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        code, out, err = certify("verify", certificate(), flag, path)
        assert code == 2 and not out and err.startswith(f"error: {path}: expected")


@pytest.mark.parametrize(("wrong", "code"), [("> /dev/full", 0), ("| true", 1)])
def test_a_verdict_that_could_not_be_said_is_none(wrong: str, code: int, folder: str, tmp_path: Path) -> None:
    for arguments, unsaid in ((["gate", folder, *GATE], 3), (["verify", certificate()], 2), (["bundles"], 1)):
        done = run(*arguments, shell=f'"$@" {wrong}; exit ${{PIPESTATUS[0]}}')
        assert done.returncode == unsaid, (arguments, done.stderr)
        said = "" if code else "error: standard output: No space left on device\n"
        assert done.stderr == said


@pytest.mark.parametrize("arguments", [["--help"], ["curve", "--help"], ["--version"]])
def test_help_on_a_full_disk_ends_in_words(arguments: list[str]) -> None:
    done = run(*arguments, shell='"$@" > /dev/full')
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.slow
def test_names_that_are_no_text_are_names(tmp_path: Path) -> None:
    """Linux lets a file's name be any bytes; a terminal may know no more than ASCII."""
    data, table = tmp_path / "data", os.fsencode(tmp_path) + b"/t\xff.tsv"
    (data / "0").mkdir(parents=True)
    picture = os.fsencode(data) + b"/0/a\xfe.png"
    Path(os.fsdecode(picture)).write_bytes(pictures.png())
    done = run("image", picture, *FAKE)
    assert done.returncode == 0 and "a\\udcfe.png" in done.stdout
    commands: list[list[str | bytes | Path]] = [
        ["dataset", data, "--out", table, *FAKE],
        ["curve", table],
        ["gate", data, "--out", os.fsencode(tmp_path) + b"/g\xff", *GATE],
    ]
    for command in commands:
        done = run(*command, shell='LC_ALL=POSIX PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 "$@"')
        assert done.returncode in (0, 1, 2) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", [b"t\xff.tsv", b"$\\x$.tsv", b"_.tsv"])
def test_a_curve_s_name_is_no_mathematics_and_may_be_no_text(name: bytes, folder: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    dataset(folder, table)
    code, _, err = certify("curve", table, "--out", tmp_path / "c.png")
    assert code == 0 and (tmp_path / "c.svg").exists(), err
    code, _, err = certify("curve", table, "--out", tmp_path / "d.png", "--title", "$\\x$")
    assert code == 1 and "title: expected text that matplotlib draws" in err


def test_a_day_or_a_shard_of_too_many_digits_is_refused_in_words(folder: str, tmp_path: Path) -> None:
    nines = 5000 * "9"
    for days in ("9" * 8, "9" * 30):
        code, _, err = certify("keys", "new", "--out", tmp_path / "k", "--days", days)
        assert code == 1 and "days: expected a day before the year 10000" in err
    code, _, err = certify("dataset", folder, "--out", tmp_path / "t.tsv", "--shard", f"1/{nines}", *FAKE)
    assert code == 1 and "shard: expected i/n" in err and len(err) < 200
    code, _, err = certify("image", f"{folder}/0/0.png", "--url", "http://127.0.0.1:99999")
    assert code == 1 and "http://127.0.0.1:99999: cannot be asked: InvalidURL: Invalid port" in err
    code, _, err = certify("audit", folder, "--out", tmp_path / "a", "--confidence", "1e-320", *FAKE)
    assert code == 1 and "confidence: expected a probability in (0, 1)" in err


def test_what_is_no_array_is_not_advised_to_be_run(folder: str, tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(b"no votes")
    for command in (["tune", tmp_path / "v.npz"], ["dataset", tmp_path / "v.npz", "--out", tmp_path / "t", *FAKE]):
        code, _, err = certify(*command)
        assert code == 1 and "another kind of file" in err and "pickle" not in err


def test_a_tune_has_one_target(tmp_path: Path) -> None:
    code, _, err = certify("tune", ROOT / "tests/cases/tune/votes.npz", "--target", "0.25,0.5")
    assert code == 1 and "target: expected acr or one radius, got '0.25,0.5'" in err


def test_seeds_are_revealed_into_a_file_or_not_at_all(tmp_path: Path) -> None:
    code, _, err = certify("reveal", certificate(), "--seed-key-file", tmp_path / "none", "--out", tmp_path)
    assert code == 1 and err == f"error: {tmp_path}: expected a file, or none yet, got a folder\n"


# Ctrl-C comes when the module that argv names is loaded.
INTERRUPTED = """
import os, runpy, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
runpy.run_module("certify", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["certify.service.cli.main", "pydantic"])
def test_a_command_that_is_ended_while_it_loads_shows_no_traceback(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module], cwd=ROOT, capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
