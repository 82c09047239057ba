"""What a service can be asked about one image, and of itself: requests and how their answers are read, as steps."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict, TypeVar

import httpx
from pydantic import BaseModel

from ...envelope import PAYLOAD_TYPE, opened
from ...models.bundle import Final
from ..answering.evidence_schemas import Evidence
from ..answering.preview_schemas import Preview
from ..answering.progress_schemas import Progress
from ..answering.schemas import CertifyAnswer, Info, Method, Norm, Problem
from ..errors import RequestError
from .exchanges import Caller, Give, Rest, Steps, Work, asked, whole
from .failures import told
from .pictures import Image, file_of
from .streams import Events

__all__ = (
    "Fields",
    "PreviewFields",
    "SignedCertificate",
    "certificate",
    "certified",
    "form",
    "info",
    "preview",
    "read",
    "watched",
)

M = TypeVar("M", bound=BaseModel)
_EVENTS = "text/event-stream"


class Fields(TypedDict, total=False):
    """The fields of a request, as GET /docs describes them; None is the default."""

    radius: float | None
    norm: Norm | None
    method: Method | None
    samples: int | None
    alpha: float | None
    threshold: float | list[float] | None
    final: Final | None
    sigmas: float | list[float] | None
    deadline_ms: int | None
    resize: bool | None
    evidence: bool | None


class PreviewFields(TypedDict, total=False):
    sigmas: float | list[float] | None
    draws: int | None
    resize: bool | None


@dataclass(frozen=True, kw_only=True)
class SignedCertificate:
    """What `certify verify` reads, and what it says; nobody has checked it yet (docs/certificates.md)."""

    envelope: bytes = field(repr=False)  # the file to keep
    evidence: Evidence


def certified(caller: Caller, image: Image, fields: Mapping[str, object]) -> Steps[CertifyAnswer]:
    request = _certify(caller, (yield from read(image)), fields, accept="application/json")
    yield from asked(caller, request, partial(_read, CertifyAnswer))


def watched(caller: Caller, image: Image, fields: Mapping[str, object]) -> Steps[Progress | CertifyAnswer]:
    """Progress, more and more samples, and at last the answer."""
    samples = -1

    def events_of(response: httpx.Response) -> Steps[Progress | CertifyAnswer]:
        nonlocal samples
        if not response.headers.get("content-type", "").startswith(_EVENTS):  # nobody streams here
            yield Give(CertifyAnswer.model_validate_json((yield from whole())))
            return
        events, answer = Events(), None
        while piece := (yield Rest()):
            for name, data in events.feed(piece):
                if name == "problem":
                    raise told(caller.url, Problem.model_validate_json(data))
                if name == "answer":
                    answer = CertifyAnswer.model_validate_json(data)
                # After a second try it begins anew, and says the same.
                if name == "progress" and (progress := Progress.model_validate_json(data)).samples > samples:
                    samples = progress.samples
                    yield Give(progress)
        if answer is None:
            raise httpx.RemoteProtocolError("the events ended before an answer")
        yield Give(answer)

    request = _certify(caller, (yield from read(image)), fields, accept=_EVENTS)
    yield from asked(caller, request, events_of)


def certificate(caller: Caller, image: Image, fields: Mapping[str, object]) -> Steps[SignedCertificate]:
    def certificate_of(response: httpx.Response) -> Steps[SignedCertificate]:
        envelope = yield from whole()
        evidence = Evidence.model_validate(opened(envelope)[0])
        yield Give(SignedCertificate(envelope=envelope, evidence=evidence))

    request = _certify(caller, (yield from read(image)), fields, accept=PAYLOAD_TYPE)
    yield from asked(caller, request, certificate_of)


def preview(caller: Caller, image: Image, fields: Mapping[str, object]) -> Steps[Preview]:
    request = _post(caller, "/v1/preview", (yield from read(image)), fields, accept="application/json")
    yield from asked(caller, request, partial(_read, Preview))


def info(caller: Caller) -> Steps[Info]:
    yield from asked(caller, caller.request("GET", "/info"), partial(_read, Info))


def read(image: Image) -> Generator[Work, bytes, bytes]:
    """The image's file. Raises RequestError."""
    return image if isinstance(image, bytes) else (yield Work(partial(file_of, image)))


def form(fields: Mapping[str, object]) -> dict[str, str]:
    """Fields as a form carries them: text as it is, everything else as JSON; None is left out. Raises RequestError.

    numpy's numbers and arrays are numbers and lists.
    """
    texts = {}
    for name, value in fields.items():
        if name == "signed":
            detail = "signed: expected no such field here; Client.certificate() gets a signed certificate"
            raise RequestError("unknown_field", detail, field=name)
        if value is not None:
            try:
                texts[name] = value if isinstance(value, str) else json.dumps(value, default=_plain)
            except (TypeError, ValueError) as exc:
                detail = f"{name}: expected text, a number, a list or a bool: {exc}"
                raise RequestError("out_of_range", detail, field=name) from exc
    return texts


def _plain(value: object) -> object:
    if callable(tolist := getattr(value, "tolist", None)):
        return tolist()
    raise TypeError(f"got {type(value).__name__}")


def _certify(caller: Caller, file: bytes, fields: Mapping[str, object], *, accept: str) -> httpx.Request:
    return _post(caller, "/v1/certify", file, fields, accept=accept)


def _post(caller: Caller, path: str, file: bytes, fields: Mapping[str, object], *, accept: str) -> httpx.Request:
    return caller.request("POST", path, accept=accept, data=form(fields), files={"image": ("image", file)})


def _read(model: type[M], response: httpx.Response) -> Steps[M]:
    yield Give(model.model_validate_json((yield from whole())))
