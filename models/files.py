"""Files that are written whole or not at all, only where a file can be, and read up to a size."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import BundleError, DataError

__all__ = (
    "MAX_TEXT_BYTES",
    "check_file",
    "check_safetensors",
    "not_a_pointer",
    "read_bytes",
    "read_object",
    "read_text",
    "said_by_numpy",
    "unwritable",
    "whole_file",
)

# Of a file that people write: settings, keys, names. A bundle's config with 22,000 classes takes a megabyte.
MAX_TEXT_BYTES = 16 * 2**20
LFS = b"version https://git-lfs.github.com/spec/"
# What a path may name that is no file, by the words of stat(1).
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


def check_file(path: Path) -> None:
    """What whole_file asks of `path`, for those who would rather know before hours of work. Raises DataError.

    A device, a FIFO or a folder is no place for results: what is written there is lost, waits for ever, or cannot be.
    """
    if path == Path("-"):
        raise DataError("-: expected a file's name, and there is no - for standard output here")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise DataError(f"{path}: expected a file, or none yet: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: expected a file, or none yet, got {_kind(mode)}")
    if (folder := unwritable(path)) is not None:
        raise DataError(f"{path}: expected a place where a file can be written, and {folder} is none")


def unwritable(path: Path) -> Path | None:
    """The nearest folder above `path` that exists, if nothing can be made there."""
    folder = next(each for each in path.resolve().parents if each.exists())
    return None if os.access(folder, os.W_OK | os.X_OK) else folder


def read_bytes(path: Path, most: int = MAX_TEXT_BYTES, *, waits: bool = True) -> bytes:
    """All of a file, FIFO or device; OSError beyond `most` bytes: /dev/zero has no end, and memory has.

    waits: for what a FIFO's other end writes; False: of a file alone, for whoever keeps others waiting. Raises OSError.
    """
    with open(path, "rb", opener=None if waits else _open_file) as file:
        # A size is told before anything is read; of a device it is 0.
        if os.fstat(file.fileno()).st_size <= most and len(content := file.read(most + 1)) <= most:
            return content
    raise OSError(errno.EFBIG, f"expected at most {most} bytes, got more", str(path))


def read_text(path: Path, most: int = MAX_TEXT_BYTES, *, waits: bool = True) -> str:
    """As read_bytes, decoded, without the mark that editors on Windows begin UTF-8 with; every end of a line is read as
    a newline. Raises OSError and UnicodeDecodeError.
    """
    return io.TextIOWrapper(io.BytesIO(read_bytes(path, most, waits=waits)), encoding="utf-8-sig").read()


def _open_file(path: str, flags: int) -> int:
    """For open(): only a file, at once. Looked at once it is open: something else may take its place at any time."""
    number = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(mode := os.fstat(number).st_mode):
        return number
    os.close(number)
    raise OSError(errno.EINVAL, f"expected a file, got {_kind(mode)}", path)


def _kind(mode: int) -> str:
    return next((name for is_it, name in _KINDS if is_it(mode)), "something else")


def not_a_pointer(path: Path) -> Path:
    """A file of weights, if it is one: git leaves a few lines of text where Git LFS was not there to fetch it.

    Raises BundleError, or OSError where it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise BundleError(f"{path}: expected the file itself, got Git LFS's pointer to it; git lfs pull fetches it")
    return path


def check_safetensors(path: Path) -> Path:
    """A whole file of safetensors, by its head. Raises BundleError, or OSError where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(not_a_pointer(path), "numpy"):
            return path
    except SafetensorError as error:
        raise BundleError(
            f"{path}: expected a whole safetensors file, got one that is cut short or is none ({error}); copy it again "
            "and compare its size"
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which replaces `path` when the block ends, and vanishes if it fails.

    What is replaced is on disk: a machine that loses its power keeps the old file or the new one. Raises DataError
    where no file can be written.
    """
    check_file(path)
    place = path.resolve()  # of a link, the file is replaced and not the link
    fresh = place.with_name(f".{place.name}-{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        _to_disk(fresh)
        os.replace(fresh, place)
        _to_disk(place.parent)
    except OSError as error:
        raise DataError(f"{path}: expected a file that can be written: {error}") from error
    finally:
        with suppress(OSError):  # where there is no such folder, there is nothing to remove
            fresh.unlink(missing_ok=True)


def read_object(path: Path, what: str = "JSON", *, missing: str = "") -> dict[str, Any]:
    """A bundle's file that holds a JSON object. what: expected where there is none; missing: said instead of that.

    Raises BundleError.
    """
    try:
        raw = json.loads(read_text(path))
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file; {missing or f'expected {what}'}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: expected JSON, got: {error}") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{path}: expected a JSON object, got {type(raw).__name__}")
    return raw


def said_by_numpy(error: Exception) -> str:
    """Without its advice to load what is no array as a pickle, which would run whatever that says."""
    if "Object arrays" in str(error):
        return "an array of Python objects"
    return "another kind of file" if "pickle" in str(error) else str(error)


def _to_disk(path: Path) -> None:
    """A file's bytes, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
