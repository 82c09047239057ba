"""models.write: a folder is there whole or not at all, and nothing else is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from certify.models.errors import BundleError
from certify.models.write import whole_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def holds_mine(folder: Path) -> bool:
    return (folder / "mine").exists()


def test_it_appears_when_the_block_ends_and_its_parents_with_it(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with whole_folder(out) as folder:
        (folder / "file").write_text("text")
        assert not out.exists()
    assert (out / "file").read_text() == "text" and names(tmp_path / "a") == ["b"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["file"]


@pytest.mark.parametrize("stopped", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [False, True])
def test_stopped_in_the_middle_it_leaves_what_was_there(
    tmp_path: Path, stopped: type[BaseException], before: bool
) -> None:
    out = tmp_path / "out"
    if before:
        out.mkdir()
        (out / "mine").write_text("old")
    with pytest.raises(stopped), whole_folder(out, replaces=holds_mine) as folder:
        (folder / "mine").write_text("new")
        raise stopped
    assert names(tmp_path) == (["out"] if before else [])
    assert not before or (out / "mine").read_text() == "old"


def test_killed_in_the_middle_it_leaves_no_half_of_it_under_the_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from certify.models.write import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert all(name.startswith(".out-") for name in names(tmp_path))
    with whole_folder(tmp_path / "out") as folder:  # and the next one is not hindered
        (folder / "whole").touch()
    assert names(tmp_path / "out") == ["whole"]


def test_an_earlier_one_is_replaced_whole_only_where_the_caller_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out) as folder:
        (folder / "mine").write_text("old")
        (folder / "gone").touch()
    with pytest.raises(BundleError, match=r"out: expected a folder that is empty or not there yet, got other files"):
        with whole_folder(out):
            raise AssertionError("the block must not begin")
    assert (out / "mine").read_text() == "old"
    with whole_folder(out, replaces=holds_mine) as folder:
        (folder / "mine").write_text("new")
    assert names(out) == ["mine"] and (out / "mine").read_text() == "new" and names(tmp_path) == ["out"]


@pytest.mark.parametrize("make", [Path.touch, lambda out: (out.mkdir(), (out / "notes").touch())])
def test_somebodys_file_or_folder_is_never_replaced(tmp_path: Path, make) -> None:
    make(tmp_path / "out")
    with pytest.raises(BundleError, match="or what an earlier run wrote"):
        with whole_folder(tmp_path / "out", replaces=holds_mine):
            raise AssertionError("the block must not begin")


def test_what_is_no_place_for_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="expected a place where a folder can be made, and .*file is none"):
        with whole_folder(tmp_path / "file" / "out"):
            raise AssertionError("the block must not begin")


def test_what_came_there_in_the_meantime_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BundleError, match="got other files"), whole_folder(out):
        out.mkdir()
        (out / "notes").touch()
    assert names(out) == ["notes"] and names(tmp_path) == ["out"]


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with whole_folder(Path(".")) as folder:
        assert folder.name == "here"
        (folder / "file").touch()
    assert names(tmp_path / "here") == ["file"]


def test_a_folder_has_the_rights_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with whole_folder(tmp_path / "out"):
        pass
    assert os.stat(tmp_path / "out").st_mode == os.stat(tmp_path / "other").st_mode
