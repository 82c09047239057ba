"""The list of photographs and its reader of Qt's resource files."""

from __future__ import annotations

import struct
import zlib
from collections import Counter

import pytest

from benchmarks.photo_pictures import extract, listed_pictures, read_rcc
from certify.models.errors import DataError

FREE = ("public domain", "CC0-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0")


def _resource_file(files: dict[str, bytes], packed: set[str]) -> bytes:
    """Qt's format 2, as rcc writes it: one folder `pictures` with these files; `packed` ones in zlib."""
    names, name_at = b"", {}
    for name in ("", "pictures", *files):
        name_at[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    contents, nodes = b"", [
        struct.pack(">IHII", name_at[""], 2, 1, 1) + bytes(8),
        struct.pack(">IHII", name_at["pictures"], 2, len(files), 2) + bytes(8),
    ]  # fmt: skip
    for name, content in files.items():
        nodes.append(struct.pack(">IHHHI", name_at[name], int(name in packed), 0, 0, len(contents)) + bytes(8))
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if name in packed else content
        contents += struct.pack(">I", len(stored)) + stored
    tree = b"".join(nodes)
    head = struct.pack(">4sIIII", b"qres", 2, 20, 20 + len(tree), 20 + len(tree) + len(contents))
    return head + tree + contents + names


def test_files_of_a_resource_file_are_read_stored_and_packed():
    files = {"panda.webp": b"black and white", "koala.webp": bytes(1000)}
    found = dict(read_rcc(_resource_file(files, packed={"koala.webp"})))
    assert found == {f"pictures/{name}": content for name, content in files.items()}


def test_training_has_seen_only_what_may_be_passed_on_and_nothing_of_what_judges():
    pictures = listed_pictures()
    train = [picture for picture in pictures if picture.part == "train"]
    assert {picture.licence for picture in train} <= set(FREE)
    assert all(picture.author and picture.source for picture in pictures)
    others = [picture for picture in pictures if picture.part != "train"]
    commons = {picture.source for picture in train if "/File:" in picture.source}
    assert not commons & {picture.source for picture in others}
    assert len(train) >= 190 and sum(picture.part == "held_out" for picture in others) >= 60


def test_every_picture_has_a_name_of_its_own():
    times = Counter((picture.part, picture.name) for picture in listed_pictures())
    assert max(times.values()) == 1


def test_a_package_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="expected Debian's gcompris-qt-data, unpacked, with categorization/"):
        extract(tmp_path, tmp_path / "out")
