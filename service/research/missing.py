"""What tables and files of votes lack of the run that they are of: shards that are not there, rows of one cut off."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError
from .tables import Table, facts_path, load_facts
from .votes_file import VotesFile

__all__ = ("expected_images", "missing_of", "missing_votes", "shard_of")


def expected_images(shards: Sequence[Table]) -> int | None:
    """How many images their run has in all, as the facts beside them say; None where they do not."""
    counts = [count for shard in shards if (count := _facts(shard)[0]) is not None]
    return max(counts, default=None)


def missing_of(shards: Sequence[Table]) -> list[str]:
    """What is missing from tables of one run, a line for people each; empty where nothing is, or nobody knows."""
    whole = expected_images(shards)
    rows = sum(map(len, shards))
    if whole is None or rows >= whole:
        return []
    named = shards[0].path if len(shards) == 1 else f"{shards[0].path} and {len(shards) - 1} more"
    lines = [f"{named}: {rows} of {whole} images"]
    there: dict[int, set[int]] = {}
    for shard in shards:
        _, place = _facts(shard)
        if place is None:
            continue
        number, of = place
        there.setdefault(of, set()).add(number)
        size = len(range(number - 1, whole, of))
        if len(shard) < size:
            lines.append(f"{shard.path}: {len(shard)} of {size} rows: its run did not end")
    return [*lines, *_absent(there, "no table of shard")]


def missing_votes(votes: VotesFile) -> list[str]:
    """As missing_of, of the votes of one run; an image that cannot be used has none, and is missing too."""
    whole, images = votes.expected, len(votes.idx)
    if whole is None or images >= whole:
        return []
    there: dict[int, set[int]] = {}
    for number, of, _ in votes.shards.tolist():
        there.setdefault(of, set()).add(number)
    return [
        f"{votes.data}, {votes.split}: votes of {images} of {whole} images",
        *_absent(there, "not there, or not whole: shard"),
    ]


def _absent(there: dict[int, set[int]], what: str) -> list[str]:
    """there: n -> the shards i of n that are there."""
    if len(there) != 1:  # shards of several numbers overlap, and nobody can say what is missing
        return []
    ((of, numbers),) = there.items()
    absent = sorted(set(range(1, of + 1)) - numbers)
    return [f"{what} " + ", ".join(f"{number}/{of}" for number in absent)] if absent else []


def _facts(table: Table) -> tuple[int | None, tuple[int, int] | None]:
    """(images of the run in all, (i, n) of the shard), as far as the file beside it says."""
    path = facts_path(table.path)
    if table.run is None or not path.exists():
        return None, None
    facts = load_facts(path)
    images, shard = facts.get("images"), facts.get("shard", "1/1")
    if images is None:  # a table of before this was kept
        return None, None
    place = shard_of(str(shard))
    if type(images) is not int or place is None:
        raise DataError(f"{path}: expected images as a number and shard as i/n, got {images!r} and {str(shard)[:40]!r}")
    return images, place


def shard_of(text: str) -> tuple[int, int] | None:
    """`2/3` -> (2, 3); None for other text."""
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and len(text) <= 20):  # Python refuses endless digits
        return None
    return int(number), int(of)
