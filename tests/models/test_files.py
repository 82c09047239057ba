"""Files are written whole, on disk, and only where a file can be."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from certify.models.errors import DataError
from certify.models.files import check_file, read_text, whole_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with whole_file(path) as fresh:
        fresh.write_text("one")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as fresh:
        fresh.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and names(path.parent) == ["file"]


def test_of_a_link_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    with whole_file(tmp_path / "link") as fresh:
        fresh.write_text("one")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere" / "file").read_text() == "one"


def test_the_bytes_are_on_disk_before_the_name_is_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fsync(handle: int) -> None:
        seen.append((os.readlink(f"/proc/self/fd/{handle}"), (tmp_path / "file").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with whole_file(tmp_path / "file") as fresh:
        fresh.write_text("one")
    assert seen == [(str(fresh), False), (str(tmp_path), True)]


def test_what_is_no_file_is_refused_by_its_kind_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket"))
    kinds = {
        tmp_path / "folder": "a folder",
        tmp_path / "fifo": "a FIFO",
        tmp_path / "socket": "a socket",
        Path("/dev/full"): "a device",
        Path("/dev/null"): "a device",
    }
    before = names(tmp_path)
    for path, kind in kinds.items():
        for refuse in (lambda: check_file(path), lambda: whole_file(path).__enter__()):  # noqa: B023
            with pytest.raises(DataError, match=f"{path}: expected a file, or none yet, got {kind}"):
                refuse()
    with pytest.raises(DataError, match="/dev/null/x: expected a file, or none yet: Not a directory"):
        check_file(Path("/dev/null/x"))
    assert names(tmp_path) == before
    assert not list(Path("/dev").glob(".null*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused_beforehand(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match=f"and {tmp_path} is none"):
        check_file(tmp_path / "deep" / "file")


def test_a_disk_that_is_full_is_an_error_in_words_and_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    with pytest.raises(DataError, match="file: expected a file that can be written: .*No space left"):
        with whole_file(tmp_path / "file") as fresh:
            fresh.symlink_to("/dev/full")  # a real device without room
            with open(fresh, "w") as stream:
                stream.write("two")
    assert (tmp_path / "file").read_text() == "one" and names(tmp_path) == ["file"]


def test_a_text_of_an_editor_on_windows_is_the_same_text(tmp_path: Path) -> None:
    """A key or a token with its mark would be another one."""
    path = tmp_path / "key"
    path.write_bytes(b"\xef\xbb\xbfsecret\r\n\xef\xbb\xbf")
    assert read_text(path) == "secret\n\ufeff"
