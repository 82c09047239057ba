"""benchmarks.attackers: what is said to be a valid request is one, and keeps the backend busy instead of the door."""

from __future__ import annotations

import pytest

from benchmarks.attackers import attacks
from certify.service.answering.plans import make_plan
from certify.service.backends.fake import FakeBackend
from certify.service.http.bodies import parse_body

VALID = ("68 bodies, one byte a second", "80 requests of 100,000 samples", "clients that leave", "tiny valid requests")


@pytest.mark.parametrize("name", VALID)
def test_valid_requests_are_questions_that_differ(name: str) -> None:
    plans = set()
    for request in (requests := attacks(b"a picture", "")[name].requests()):
        body = request.partition(b"\r\n\r\n")[2]
        fields = parse_body(body, content_type="multipart/form-data; boundary=b", content_encoding=None).fields
        plans.add(make_plan(fields, FakeBackend().info(), max_samples_allowed=100_000))
    assert len(plans) == len(requests)
