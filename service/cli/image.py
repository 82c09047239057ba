"""What `certify image` does: the HTTP service's steps in this process, or a request to a service, image by image."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from ..answering.answers import make_answer
from ..answering.driver import CallLimits, drive
from ..answering.fields import parse_texts
from ..answering.images import decode_image
from ..answering.plans import make_plan
from ..answering.schemas import CertifyAnswer, CertifyFields, Problem
from ..answering.seeds import key_from_number
from ..backends import open_backend
from ..backends.base import Backend
from ..errors import BackendUnavailable, DeadlineExceeded, RequestError
from ..settings import Settings

__all__ = ("Reply", "ask", "certify_bytes", "certify_here")

# A service that cannot be reached says so quickly; how long it may sample is its own business.
_TIMEOUT = httpx.Timeout(None, connect=10.0)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of one file: an answer, or why there is none. `seed` is the number that brings the same noise again."""

    path: Path
    answer: CertifyAnswer | None = None
    error: Mapping[str, object] | None = None  # code, detail and hints
    seed: int | None = None

    def as_json(self) -> str:
        facts: dict[str, object] = {"path": str(self.path)}
        if self.seed is not None:
            facts["seed"] = self.seed
        facts |= {"error": self.error} if self.answer is None else self.answer.model_dump(mode="json")
        return json.dumps(facts)

    def as_text(self) -> str:
        """The same facts, a line each, and a table of stages."""
        lines = [str(self.path)]
        if self.answer is None:
            assert self.error is not None
            return "\n".join([*lines, *(f"  {name}: {value}" for name, value in self.error.items())])
        facts = self.answer.model_dump(mode="json")
        stages = facts.pop("stages")
        if self.seed is not None:
            facts["seed"] = self.seed
        lines += [f"  {name}: {_text(value)}" for name, value in facts.items()]
        lines += [f"  stage {_text(stage)}" for stage in stages]
        return "\n".join(lines)


async def certify_here(
    settings: Settings, paths: list[Path], texts: Mapping[str, str], *, seed: int
) -> AsyncIterator[Reply]:
    """Certify each file in this process, with noise derived from `seed`."""
    fields = parse_texts({name: [text] for name, text in texts.items()})
    backend = open_backend(settings)
    await backend.open()
    try:
        for path in paths:
            try:
                answer = await certify_bytes(_read(path), fields, backend, settings, key_from_number(seed))
                yield Reply(path=path, answer=answer, seed=seed)
            except RequestError as exc:
                yield Reply(path=path, error={"code": exc.code, "detail": exc.detail, **exc.extra})
            except DeadlineExceeded as exc:
                yield Reply(path=path, error={"code": "deadline_exceeded", "detail": str(exc)})
    finally:
        await backend.close()


async def certify_bytes(
    data: bytes, fields: CertifyFields, backend: Backend, settings: Settings, key: bytes
) -> CertifyAnswer:
    """The answer of POST /certify for the file `data`, worked out on `backend`. Raises CertifyError."""
    info = backend.info()
    arrival = time.monotonic()
    now = asyncio.get_running_loop().time()
    plan = make_plan(fields, info, max_samples_allowed=settings.max_samples)
    picture = decode_image(data, info.input_shape, resize=fields.resize, max_pixels=settings.max_pixels)
    scope = plan.seed_scope(picture.sha256, info.bundle_digest)
    run = await drive(
        backend,
        plan.certifier(),
        picture.tensor,
        sigmas=plan.sigmas,
        seed_of=partial(scope.seed, key),
        limits=CallLimits(samples=settings.call_samples, seconds=settings.call_seconds),
        deadline=None if fields.deadline_ms is None else now + fields.deadline_ms / 1000,
    )
    return make_answer(
        request_id=str(uuid.uuid4()),
        run=run,
        plan=plan,
        picture=picture,
        info=info,
        total_seconds=time.monotonic() - arrival,
    )


async def ask(url: str, paths: list[Path], texts: Mapping[str, str]) -> AsyncIterator[Reply]:
    """Have each file certified by the service at `url`. Raises BackendUnavailable when it cannot be reached."""
    async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
        for path in paths:
            try:
                data = _read(path)
            except RequestError as exc:
                yield Reply(path=path, error={"code": exc.code, "detail": exc.detail})
                continue
            with _as_unavailable(url):
                response = await client.post(
                    f"{url.rstrip('/')}/certify", data=dict(texts), files={"image": (path.name, data)}
                )
                body = response.json()
                if response.is_success:
                    yield Reply(path=path, answer=CertifyAnswer.model_validate(body))
                else:
                    yield Reply(path=path, error=Problem.model_validate(body).model_dump(mode="json"))


@contextlib.contextmanager
def _as_unavailable(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise BackendUnavailable(f"{url}: cannot be asked: {type(exc).__name__}: {exc}") from exc
    except ValueError as exc:  # not JSON, or of another shape
        raise BackendUnavailable(f"{url}: expected the answer of a certify service, got something else") from exc


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise RequestError("missing_field", f"image: cannot be read: {exc.strerror}: {path}") from exc


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return "none" if value is None else str(value)
