"""Many images, a bounded number in each request: what is answered is given at once, what is not is sent again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral

import httpx

from ..answering.progress_schemas import BatchLine
from ..answering.schemas import CertifyAnswer
from ..errors import CertifyError, RequestError
from .exchanges import Caller, Give, Next, Rest, Steps, Tries, Wait, answered
from .failures import passes, told
from .pictures import Image
from .questions import form, read
from .streams import Lines

__all__ = ("AT_ONCE", "Reply", "check_images", "many")

# Images in a request. A service takes 256, but what breaks is sent again, and both sides hold it meanwhile.
AT_ONCE = 32
# Two megabytes under a service's usual 10 MiB, for boundaries and fields. A larger image goes alone.
_MOST_BYTES = 8 * 2**20
_LINES = "application/x-ndjson"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of one of many images: an answer, or the error why there is none."""

    index: int  # of the image among those that were given, from 0
    image: Image = field(repr=False)  # as it was given
    answer: CertifyAnswer | None = None
    error: CertifyError | None = None

    def certified(self) -> CertifyAnswer:
        """The answer. Raises the error where there is none."""
        if self.answer is None:
            assert self.error is not None
            raise self.error
        return self.answer


@dataclass(frozen=True, kw_only=True)
class _Item:
    index: int
    image: Image
    file: bytes

    def reply(self, *, answer: CertifyAnswer | None = None, error: CertifyError | None = None) -> Reply:
        return Reply(index=self.index, image=self.image, answer=answer, error=error)


def check_images(images: object) -> None:
    """Raises TypeError for what is one image: text would be taken letter by letter, each as a path."""
    if isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Iterable | AsyncIterable):
        raise TypeError(f"images: expected several, in a list or another iterable, got {type(images).__name__}")


def many(caller: Caller, fields: Mapping[str, object], at_once: int) -> Steps[Reply]:
    """A reply for each image, those of one request in any order. at_once: most images of a request."""
    if not isinstance(at_once, Integral):
        raise TypeError(f"at_once: expected a whole number, got {type(at_once).__name__}")
    if at_once < 1:
        raise ValueError(f"at_once: expected at least 1, got {at_once}")
    texts = form(fields)
    index, size = 0, 0
    items: list[_Item] = []
    while (image := (yield Next())) is not None:
        try:
            file = yield from read(*image)
        except RequestError as error:
            yield Give(Reply(index=index, image=image[0], error=error))
        else:
            if items and size + len(file) > _MOST_BYTES:
                yield from _replies(caller, texts, items)
                items, size = [], 0
            items.append(_Item(index=index, image=image[0], file=file))
            size += len(file)
            if len(items) == at_once:
                yield from _replies(caller, texts, items)
                items, size = [], 0
        index += 1
    if items:
        yield from _replies(caller, texts, items)


def _replies(caller: Caller, texts: Mapping[str, str], items: Sequence[_Item]) -> Steps[Reply]:
    """Of one request's images, which is sent again without those that were answered. Raises CertifyError."""
    tries = Tries(caller)
    while items:
        files = [("image", ("image", item.file)) for item in items]
        left = dict(enumerate(items))
        refused: dict[int, CertifyError] = {}
        try:
            request = caller.request("POST", "/v1/certify/batch", accept=_LINES, data=texts, files=files)
            yield from answered(caller, tries.timed(request), partial(_read, caller, left, refused, tries))
        except (CertifyError, httpx.HTTPError, ValueError) as error:
            if _too_many(error):
                yield from _in_halves(caller, texts, items, error)
                return
            try:
                pause = tries.pause(error)
            except CertifyError as last:
                if error not in refused.values():
                    raise
                for position, item in left.items():
                    yield Give(item.reply(error=refused.get(position, last)))
                return
            yield Wait(pause)
        items = list(left.values())


def _read(
    caller: Caller, left: dict[int, _Item], refused: dict[int, CertifyError], tries: Tries, response: httpx.Response
) -> Steps[Reply]:
    """Takes out of `left` what is answered, and notes what is refused in passing. Raises if anything is left."""
    lines = Lines()
    while piece := (yield Rest()):
        for text in lines.feed(piece):
            line = BatchLine.model_validate_json(text)
            if line.index not in left or (line.answer is None) == (line.problem is None):
                raise ValueError("expected an index of the request, and an answer or a problem")
            error = None if line.problem is None else told(caller.url, line.problem)
            if error is not None and passes(error):
                refused[line.index] = error
                continue
            tries.progressed()
            yield Give(left.pop(line.index).reply(answer=line.answer, error=error))
    if refused:
        raise max(refused.values(), key=lambda error: error.retry_after_seconds or 0)
    if left:
        raise httpx.RemoteProtocolError(f"the answer ended before {len(left)} of its lines")


def _too_many(error: Exception) -> bool:
    """Whether a smaller request may do."""
    return isinstance(error, RequestError) and (error.code == "body_too_large" or "max_batch" in error.hints)


def _in_halves(caller: Caller, texts: Mapping[str, str], items: Sequence[_Item], error: Exception) -> Steps[Reply]:
    if len(items) == 1:
        assert isinstance(error, CertifyError)
        yield Give(items[0].reply(error=error))
        return
    middle = len(items) // 2
    yield from _replies(caller, texts, items[:middle])
    yield from _replies(caller, texts, items[middle:])
