"""Class folders: torchvision's ImageFolder finds the same files, in the same order, with the same labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from certify.models.data.folders import open_folder
from certify.models.data.pictures import image_suffixes
from certify.service.errors import DataError


def put(root: Path, *names: str) -> None:
    """Files that hold their own name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(name))


def nested(root: Path) -> None:
    put(root, "b/z/9.png", "b/2.png", "a/deep/deeper/1.jpg", "a/0.jpg")


def order_of_folders(root: Path) -> None:
    put(root, "a/x/1.png", "a/x-y/1.png", "a/x.y/1.png", "a/x y/1.png", "a/1.png", "a/x/b/1.png")


def upper_case(root: Path) -> None:
    put(root, "A/1.PNG", "A/2.Jpeg", "a/3.TIF", "B/4.WEBP", "B/5.BmP", "B/6.pgm", "B/7.ppm")


def other_files(root: Path) -> None:
    put(root, "a/1.png", "a/notes.txt", "a/Thumbs.db", "a/2.png.txt", "b/3.jpg", "b/png", "README.md", "4.png")


def hidden(root: Path) -> None:
    put(root, ".cache/1.png", "a/.png", "a/._2.png", "a/.hidden/3.png", "a/4.png")


def linked_files(root: Path) -> None:
    put(root, "a/1.png", "elsewhere/x.png", "b/2.png")
    (root / "b" / "0.png").symlink_to(root / "a" / "1.png")
    (root / "b" / "broken.png").symlink_to(root / "nowhere.png")


def linked_folders(root: Path) -> None:
    outside = root.parent / f"{root.name}-outside"
    put(outside, "sub/1.png", "2.png")
    put(root, "a/3.png")
    (root / "b").symlink_to(outside)
    (root / "a" / "more").symlink_to(outside / "sub")


def digits_and_signs(root: Path) -> None:
    put(root, "10/1.png", "2/1.png", "1/10.png", "1/9.png", "ä/1.png", "Z/1.png", "n02012849 crane/1.png", "a,b/é.png")


def folders_named_as_files(root: Path) -> None:
    put(root, "a/1.png/2.png", "a/2.png", "b.png/3.jpg")


def bytes_that_are_no_text(root: Path) -> None:
    put(root, "a/1.png")
    (root / os.fsdecode(b"caf\xe9")).mkdir()
    put(root / os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff.png"))


def one_below_the_other(root: Path) -> None:
    put(root, "a/train/1.png", "a/val/1.png", "b/val/2.png", "b/train/2.png", "b/test.png")


TREES = (
    nested, order_of_folders, upper_case, other_files, hidden, linked_files, linked_folders, digits_and_signs,
    folders_named_as_files, bytes_that_are_no_text, one_below_the_other,
)  # fmt: skip


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.__name__)
def test_torchvision_finds_the_same_files(tree: Callable[[Path], None], tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    root = tmp_path / "set"
    if tree is bytes_that_are_no_text:
        try:
            put(tmp_path, os.fsdecode(b"\xff"))
        except OSError:
            pytest.skip("this file system takes no such names")
    tree(root)
    theirs, ours = datasets.ImageFolder(root, loader=lambda path: path), open_folder(root)
    assert ours.classes == tuple(theirs.classes)
    assert ours.labels == tuple(theirs.targets)
    assert len(ours) == len(theirs.samples) > 0
    for position, (path, _) in enumerate(theirs.samples):
        if not Path(path).exists():  # a link to nothing
            with pytest.raises(DataError, match=r"broken\.png: cannot be read"):
                ours.stored(position)
        else:
            assert ours.stored(position) == Path(path).read_bytes()
    assert ours.digest().startswith("sha256:")


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    other_files(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path / "a")
    data = open_folder(tmp_path)
    assert data.classes == ("a", "b", "empty") and len(data) == 2
    assert data.skipped == {
        "in no class's folder": 2,
        "no image: .txt": 2,
        "no image: .db": 1,
        "no image: without an extension": 1,
        "class without an image": 1,
        "link to a folder above it": 1,
    }


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """Where torchvision goes round until the system has had enough, with each file as often."""
    put(tmp_path, "a/1.png", "a/b/2.png")
    (tmp_path / "a" / "b" / "top").symlink_to(tmp_path)
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a" / "b")
    data = open_folder(tmp_path)
    names = [data.stored(position).decode() for position in range(len(data))]
    assert set(names) == {"a/1.png", "a/b/2.png"} and len(names) < 10


def test_pillows_other_formats_are_found_and_what_it_cannot_decode_is_not() -> None:
    assert {".gif", ".avif", ".jp2", ".tga", ".ico"} <= set(image_suffixes())
    assert not {".eps", ".h5", ".mpg", ".pdf", ".txt"} & set(image_suffixes())


def test_a_fifo_is_no_file_and_stops_nothing(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    data = open_folder(tmp_path)
    with pytest.raises(DataError, match=r"2\.png: expected a file, got something else"):
        data.read(1)


@pytest.mark.parametrize("names", [[], ["1.png"], ["a/notes.txt"]])
def test_a_folder_without_classes_is_refused(names: list[str], tmp_path: Path) -> None:
    put(tmp_path, *names)
    with pytest.raises(DataError, match="expected a folder for each class with .jpg, .jpeg, .png"):
        open_folder(tmp_path)
