"""A folder with a folder for each class, walked down as torchvision's ImageFolder does."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from .dataset import DataSet
from .pictures import as_served, image_suffixes, is_image, read_file

__all__ = ("open_folder", "walk")


def open_folder(path: Path) -> DataSet:
    """Classes and files sorted by name, folder after folder, links followed; idx counts through all of them.

    Source: torchvision.datasets.ImageFolder (find_classes, make_dataset). Two things differ: a class without an image
    is no error, and a link to a folder that it lies in is not followed (torchvision goes round until the system stops
    it). Raises DataError if there is no image at all.
    """
    skipped: Counter[str] = Counter()
    try:
        with os.scandir(path) as entries:
            inside = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise DataError(f"{path}: expected a folder that can be read: {error.strerror}") from error
    classes = tuple(name for name, is_folder in inside if is_folder)
    skipped["in no class's folder"] = sum(not is_folder for _, is_folder in inside)
    files: list[tuple[int, str]] = []  # not Paths, which take four times as much of a million
    for label, name in enumerate(classes):
        before = len(files)
        for file in walk(path / name, skipped):
            if is_image(file.name):
                files.append((label, str(file)))
            else:
                skipped[f"no image: {file.suffix.lower() or 'without an extension'}"] += 1
        skipped["class without an image"] += len(files) == before
    if not files:
        raise DataError(f"{path}: expected a folder for each class with {', '.join(image_suffixes()[:9])} files in it")

    def stored(position: int) -> bytes:
        return read_file(Path(files[position][1]))

    return DataSet(
        name=path.name or path.resolve().name,
        split="all",
        classes=classes,
        idx=tuple(range(len(files))),
        labels=tuple(label for label, _ in files),
        read=lambda position: as_served(stored(position), files[position][1]),
        stored=stored,
        skipped=+skipped,
    )


def walk(top: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Every file below `top`, in torchvision's order: by the text of its folder's path, then by its name."""
    found = []
    above: dict[str, tuple[tuple[int, int], ...]] = {
        str(top): (_identity(str(top)),)
    }  # of each folder that is open: what it and all above it are

    def cannot(error: OSError) -> None:
        skipped["folder that cannot be read"] += 1

    for root, folders, files in os.walk(top, followlinks=True, onerror=cannot):
        found.append((root, sorted(files)))
        line = above.pop(root)
        for name in list(folders):
            place = os.path.join(root, name)
            identity = _identity(place)
            if identity in line:
                folders.remove(name)
                skipped["link to a folder above it"] += 1
            else:
                above[place] = (*line, identity)
    for root, files in sorted(found):
        yield from (Path(root) / name for name in files)


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError:
        return (-1, -1)  # gone, or not to be looked at: os.walk says so
    return status.st_dev, status.st_ino
