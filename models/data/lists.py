"""A folder of images with labels.csv: a line for each image, its file name and its label."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .dataset import DataSet
from .folders import walk
from .pictures import as_served, is_image, read_file

__all__ = ("LIST", "open_list")

LIST = "labels.csv"
_FILE_COLUMNS = ("filename", "file_name", "file", "path", "filepath", "image", "name", "id", "")  # "": pandas' index
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category", "y")


def open_list(path: Path) -> DataSet:
    """path: a .csv (commas or semicolons) or .tsv, with a line of column names, or with two columns and none.

    Files are named relative to its folder, and lie in it. Raises DataError naming the line.
    """
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path}: expected a line for each image, filename and label, got none")
    at_file, at_label, first = _columns(path, rows[0])
    folder, files, names = path.parent, [], []
    for number, cells in rows[first:]:
        if len(cells) <= max(at_file, at_label) or not cells[at_file] or not cells[at_label]:
            raise DataError(f"{path}: line {number}: expected a file name and a label, got {cells}")
        file = Path(cells[at_file])
        if file.is_absolute() or ".." in file.parts:
            raise DataError(f"{path}: line {number}: expected a file in {folder}, got {cells[at_file]!r}")
        files.append(folder / file)
        names.append(cells[at_label])
    if not any(map(os.path.exists, files)):  # a Path raises for a name that is too long
        raise DataError(
            f"{path}: expected files in {folder}, and none of those it names is there ({files[0].name}, ...)"
        )
    numbered = all(name.isascii() and name.isdecimal() and len(name) < 10 for name in names)  # longer ones are names
    classes = tuple(sorted(set(names), key=int) if numbered else sorted(set(names)))
    index = {name: at for at, name in enumerate(classes)}
    return DataSet(
        name=folder.resolve().name,
        split="all",
        classes=classes,
        idx=tuple(range(len(files))),
        labels=tuple(index[name] for name in names),
        read=lambda position: as_served(read_file(files[position]), files[position]),
        stored=lambda position: read_file(files[position]),
        named=not numbered,
        skipped=_unnamed(folder, path, files),
    )


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line, cells) of every line that is not empty."""
    try:
        text = read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text: {error}") from error
    head = text.partition("\n")[0]
    separator = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in head and "," not in head else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: expected comma-separated cells: {error}") from error


def _columns(path: Path, head: tuple[int, Sequence[str]]) -> tuple[int, int, int]:
    """(column of the file's name, column of the label, rows to pass over)."""
    words = [cell.lower() for cell in head[1]]
    file = next((words.index(name) for name in _FILE_COLUMNS if name in words), None)
    label = next((words.index(name) for name in _LABEL_COLUMNS if name in words), None)
    if file is not None and label is not None and file != label:
        return file, label, 1
    if len(words) == 2 and is_image(words[0]):
        return 0, 1, 0
    raise DataError(f"{path}: line {head[0]}: expected columns filename and label, got {', '.join(head[1])}")


def _unnamed(folder: Path, path: Path, files: Sequence[Path]) -> dict[str, int]:
    """Images below the folder that the list does not name."""
    skipped: Counter[str] = Counter()
    named = set(files)
    skipped[f"not in {path.name}"] = sum(is_image(file.name) and file not in named for file in walk(folder, skipped))
    return dict(+skipped)
