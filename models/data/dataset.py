"""A labelled data set: each image as the bytes of a file, so that it takes the way of any client's image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import DataError
from .names import indices_of

__all__ = ("DataSet", "choose_part")

# Which part of a data set is certified unless another is named: the first of these that it has, as the field does.
_USUAL_PARTS = ("test", "val", "valid", "validation", "all", "train")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Images in the order in which they are certified.

    `idx` is an image's number in its file or folder, whatever part or shard of it is asked for.
    """

    name: str
    split: str  # which part of which split, or "all"
    classes: tuple[str, ...]
    idx: tuple[int, ...]
    labels: tuple[int, ...]  # into classes
    read: Callable[[int], bytes]  # position in this object, not idx -> a PNG, JPEG or WebP file; raises DataError
    # What the digest is of: position -> the bytes as they lie on the disk. None: what `read` gives.
    stored: Callable[[int], bytes] | None = None
    named: bool = True  # False: classes are numbers, for lack of names
    skipped: Mapping[str, int] = field(default_factory=dict)  # why files were passed over -> how many

    def __len__(self) -> int:
        return len(self.idx)

    def contents(self) -> list[str | None]:
        """SHA-256 of each image as it lies on the disk, in hex; None of one that cannot be read."""

        def content(position: int) -> str | None:
            try:
                return hashlib.sha256((self.stored or self.read)(position)).hexdigest()
            except DataError:
                return None

        return [content(position) for position in range(len(self))]

    def digest(self, contents: Sequence[str | None] | None = None) -> str:
        """ "sha256:..." of every idx, class and file: two runs with the same one saw the same images and labels.

        contents: as contents() gives them, from whoever has them already.
        """
        whole = hashlib.sha256()
        for idx, label, content in zip(self.idx, self.labels, contents or self.contents(), strict=True):
            # A folder's name may hold bytes that are no UTF-8.
            line = f"{idx}\t{self.classes[label]}\t{content or 'unreadable'}\n"
            whole.update(line.encode(errors="surrogateescape"))
        return f"sha256:{whole.hexdigest()}"

    def part(self, *, limit: int | None = None, shard: tuple[int, int] = (1, 1)) -> DataSet:
        """The first `limit` images, and of these every n-th, beginning with the i-th, for shard (i, n), 1 <= i <= n.

        All shards together are the whole, and each has its share of whatever the order of the images is.
        """
        number, of = shard
        if not 1 <= number <= of:
            raise DataError(f"shard: expected i/n with 1 <= i <= n, got {number}/{of}")
        if limit is not None and limit < 1:
            raise DataError(f"limit: expected at least 1, got {limit}")
        return self.chosen(range(len(self))[:limit][number - 1 :: of])

    def chosen(self, positions: Sequence[int]) -> DataSet:
        """These images, in this order."""
        stored = self.stored
        return replace(
            self,
            idx=tuple(self.idx[i] for i in positions),
            labels=tuple(self.labels[i] for i in positions),
            read=lambda position: self.read(positions[position]),
            stored=None if stored is None else lambda position: stored(positions[position]),
        )

    def labels_in(self, classes: tuple[str, ...]) -> tuple[int, ...]:
        """`labels` as indices into a bundle's classes: by name or synset, or by number where there are no names.

        Raises DataError if the bundle lacks one, or has several of that name.
        """
        used = [self.classes[label] for label in sorted(set(self.labels))]
        index = indices_of(used, classes, named=self.named, where=self.name)
        return tuple(index[self.classes[label]] for label in self.labels)


def choose_part(parts: Iterable[str], part: str | None, where: object) -> str:
    """`part` if it is one of `parts`; unasked, the usual one or the only one. Raises DataError naming them all."""
    known = tuple(parts)
    if part is None:
        part = next((usual for usual in _USUAL_PARTS if usual in known), known[0] if len(known) == 1 else None)
    if part not in known:
        got = "none" if part is None else repr(part)
        raise DataError(f"part: expected one of {', '.join(known)} of {where}, got {got}")
    return part
