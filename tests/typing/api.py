"""The public types, as a user writes them. mypy reads this file; nothing runs it."""

from pathlib import Path
from typing import Literal, assert_type

from certify import (
    Cascade,
    Certificate,
    Certifier,
    CertifyError,
    Client,
    __version__,
    cascade_certificate,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from certify.service.answering.schemas import CertifyAnswer, Info, Label
from certify.service.core import Query, Reason, Result, StageResult, max_radius, min_samples
from certify.service.errors import RequestError

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
            raise
        except CertifyError:
            return 0.0
    assert_type(answer, CertifyAnswer)
    assert_type(answer.label, Label | None)
    assert_type(answer.outcome, Literal["certified", "below_radius", "abstained"])
    return answer.radius
