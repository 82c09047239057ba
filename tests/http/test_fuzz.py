"""Whatever is sent, the answer is one of the documented ones and no place is lost."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certify.service.answering.schemas import CertifyFields
from certify.service.http.problems import CODES
from tests import pictures
from tests.answer_rules import check
from tests.servers import in_process

pytestmark = pytest.mark.slow

IMAGE = pictures.png()
FIELDS = ["image", "unknown", *CertifyFields.model_fields]
DOCUMENTED = {(kind.status, code) for code, kind in CODES.items() if code != "internal_error"}

numbers = st.one_of(
    st.integers(),
    st.integers(-10, 200_000),
    st.floats(),
    st.floats(0, 4),
    st.sampled_from([0.25, 0.5, 1.0, 1e-9, 0.001, 0.1, 128, 1000, 100_000, 10**40, 5e-324]),
)
leaves = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=20), st.sampled_from(["l2", "linf", "plurality"])
)
values = st.one_of(leaves, st.lists(leaves, max_size=4), st.dictionaries(st.text(max_size=3), leaves, max_size=2))
quick = settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def exchange(requests: list[dict[str, Any]]) -> None:
    async def run() -> None:
        async with in_process() as service:
            for request in requests:
                response = await service.client.post("/certify", **request)
                answer = response.json()
                if response.status_code == 200:
                    check(answer)
                else:
                    assert (response.status_code, answer["code"]) in DOCUMENTED, answer
            assert await service.metric("certify_queue_depth") == 0
            assert await service.metric("certify_in_flight") == 0
            assert service.gateway.admission.idle

    asyncio.run(run())


@quick
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4), min_size=1, max_size=8))
def test_any_json_values(fields: list[dict[str, Any]]) -> None:
    image = {"image": base64.b64encode(IMAGE).decode()}
    exchange(
        [
            {"content": json.dumps(image | each).encode(), "headers": {"Content-Type": "application/json"}}
            for each in fields
        ]
    )


@quick
@given(
    st.lists(
        st.dictionaries(st.sampled_from(FIELDS[1:]), st.one_of(st.text(max_size=30), numbers.map(str)), max_size=4),
        min_size=1,
        max_size=8,
    )
)
def test_any_form_values(fields: list[dict[str, str]]) -> None:
    exchange([{"files": {"image": ("a.png", IMAGE)}, "data": each} for each in fields])


@quick
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["application/json", "multipart/form-data; boundary=b", "multipart/form-data", "a/b", "\x00"]
            ),
            st.one_of(
                st.binary(max_size=300),
                st.text(max_size=100).map(str.encode),
                st.lists(
                    st.sampled_from(
                        [b"--b", b"\r\n", b"--", b": ", b'Content-Disposition: form-data; name="image"', b"x"]
                    ),
                    max_size=20,
                ).map(b"".join),
            ),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_bytes(bodies: list[tuple[str, bytes]]) -> None:
    exchange([{"content": body, "headers": {"Content-Type": kind}} for kind, body in bodies])


@quick
@given(
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=4)), min_size=1, max_size=8),
    st.sampled_from(["PNG", "JPEG", "WEBP"]),
)
def test_any_damage_to_an_image(damages: list[tuple[int, bytes]], kind: str) -> None:
    good = pictures.encoded(pictures.gray(), kind)
    files = [good[:at] + bytes_ + good[at + len(bytes_) :] for at, bytes_ in damages]
    exchange([{"files": {"image": ("a", each)}, "data": {"samples": "200", "resize": "true"}} for each in files])
