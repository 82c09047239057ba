"""The public types, as a user writes them. mypy reads this file; nothing runs it."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, assert_type

import numpy as np
from PIL import Image

from certify import (
    AsyncClient,
    Cascade,
    Certificate,
    Certifier,
    CertifyAnswer,
    CertifyError,
    Client,
    Preview,
    Progress,
    Reply,
    RequestError,
    SignedCertificate,
    __version__,
    cascade_certificate,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from certify.service.answering.evidence_schemas import Evidence
from certify.service.answering.schemas import Info, Label
from certify.service.core import Query, Reason, Result, StageResult, max_radius, min_samples

assert_type(__version__, str)

cascade = Cascade.of((0.25, 0.5), threshold=[0.5, 0.9], final="plurality")
assert_type(cascade, Cascade)
assert_type(cascade.sigmas, tuple[float, ...])
assert_type(cascade.final, Literal["plurality", "threshold"])
Cascade.of((0.25,), threshold=0.5, final="majority")  # type: ignore[arg-type]

certifier = Certifier(cascade, 10, alpha=0.001, samples=10_000, radius=None)
while (query := certifier.next()) is not None:
    assert_type(query, Query)
    assert_type(query.purpose, Literal["pilot", "estimation"])
    certifier.observe(query, [query.count, *[0] * 9])
result = certifier.result()
assert_type(result, Result)
assert_type(result.label, int | None)
assert_type(result.radius, float)
assert_type(result.reason, Reason)
assert_type(result.stages, tuple[StageResult, ...])
Certifier(cascade, 10, samples="many")  # type: ignore[arg-type]

certificate = cascade_certificate(
    cascade=cascade, counts=[[90, 10], [80, 20]], label=0, alpha=0.001, weights=(0.5, 0.5)
)
assert_type(certificate, Certificate)
assert_type(certificate.radius, float)
assert_type(min_samples(cascade, alpha=0.001), int)
assert_type(max_radius(cascade, alpha=0.001, samples=10_000), float)
assert_type(clopper_pearson_lower(90, 100, 0.001), float)
assert_type(clopper_pearson_upper(90, 100, 0.001), float)


def ask(url: str) -> float:
    """A client's errors are CertifyErrors, and an answer may be an abstention."""
    with Client(url) as client:
        assert_type(client.info(), Info)
        try:
            answer = client.certify(Path("digit.png"), radius=0.3)
        except RequestError as error:
            assert_type(error.code, str)
            assert_type(error.field, str | None)
            raise
        except CertifyError as failure:
            assert_type(failure.retry_after_seconds, float | None)
            assert_type(failure.request_id, str | None)
            assert_type(failure.hints.get("max_radius"), object)
            return 0.0
    assert_type(answer, CertifyAnswer)
    assert_type(answer.label, Label | None)
    assert_type(answer.outcome, Literal["certified", "below_radius", "abstained"])
    return answer.radius


def any_image(client: Client) -> None:
    """An image in any form, and fields of their types."""
    for image in ("a.png", Path("a.png"), b"", np.zeros((8, 8), np.uint8), Image.new("L", (8, 8))):
        client.certify(image, sigmas=[0.25, 0.5], threshold=0.6, norm="linf", samples=None)
    client.certify(3)  # type: ignore[arg-type]
    client.certify("a.png", radius="wide")  # type: ignore[arg-type]
    client.certify("a.png", epsilon=0.3)  # type: ignore[call-arg]
    client.certify("a.png", signed=True)  # type: ignore[call-arg]
    client.certify("a.png", progress=lambda progress: assert_type(progress, Progress))
    assert_type(client.preview("a.png", sigmas=[0.25], draws=1), Preview)
    client.preview("a.png", radius=0.3)  # type: ignore[call-arg]
    certificate = client.certificate("a.png")
    assert_type(certificate, SignedCertificate)
    assert_type(certificate.envelope, bytes)
    assert_type(certificate.evidence, Evidence)


def many(client: Client, images: Iterable[Path]) -> list[CertifyAnswer]:
    for reply in client.certify_many(images, radius=0.3):
        assert_type(reply, Reply)
        assert_type(reply.answer, CertifyAnswer | None)
        assert_type(reply.error, CertifyError | None)
    return [reply.certified() for reply in client.certify_many(images, at_once=8)]


async def awaited(client: AsyncClient) -> None:
    assert_type(await client.certify("a.png"), CertifyAnswer)
    assert_type([reply async for reply in client.certify_many(["a.png"])], list[Reply])
    assert_type(
        await asyncio.gather(client.certify("a.png"), client.certify("b.png")), tuple[CertifyAnswer, CertifyAnswer]
    )
