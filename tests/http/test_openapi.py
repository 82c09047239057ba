from __future__ import annotations

from typing import Any

import pytest

from certify.service.answering.schemas import CertifyAnswer, CertifyFields, Problem
from certify.service.backends.fake import FakeBackend
from certify.service.http.app import create_app
from certify.service.http.openapi import ANSWER_EXAMPLE
from certify.service.http.problems import CODES
from certify.service.settings import load_settings
from tests.answer_rules import check
from tests.servers import in_process

SCHEMA: dict[str, Any] = create_app(load_settings(backend="fake"), FakeBackend()).openapi()
CERTIFY = SCHEMA["paths"]["/certify"]["post"]


def problem_contents() -> list[tuple[str, int, dict[str, Any]]]:
    return [
        (path, int(status), answer["content"]["application/problem+json"])
        for path, operations in SCHEMA["paths"].items()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if status != "200"
    ]


def test_every_code_is_typed_with_an_example_where_it_can_occur() -> None:
    documented = set()
    for _, status, content in problem_contents():
        codes = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
        assert set(content["examples"]) == set(codes)
        for code in codes:
            example = Problem.model_validate(content["examples"][code]["value"])
            assert (example.code, example.status) == (code, status)
            assert CODES[code].status == status
            documented.add(code)
    # These two belong to no path and method of the API.
    assert documented == set(CODES) - {"not_found", "method_not_allowed"}


def test_no_error_has_the_frameworks_own_shape() -> None:
    assert "HTTPValidationError" not in SCHEMA["components"]["schemas"]
    for path in SCHEMA["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                assert status == "200" or set(answer["content"]) == {"application/problem+json"}


def test_every_reference_resolves() -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [found for key, value in node.items() for found in ([value] if key == "$ref" else references(value))]
        return [found for item in node for found in references(item)] if isinstance(node, list) else []

    found = references(SCHEMA)
    assert found
    for reference in found:
        target = SCHEMA
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_a_form_and_json_document_the_same_fields() -> None:
    content = CERTIFY["requestBody"]["content"]
    names = {kind: set(content[kind]["schema"]["properties"]) for kind in content}
    assert names["multipart/form-data"] == names["application/json"] == {"image", *CertifyFields.model_fields}
    assert all(content[kind]["schema"]["required"] == ["image"] for kind in content)


def test_the_answer_example_follows_the_schema_and_the_contracts_rules() -> None:
    assert CERTIFY["responses"]["200"]["content"]["application/json"]["example"] == ANSWER_EXAMPLE
    assert CertifyAnswer.model_validate(ANSWER_EXAMPLE).model_dump(mode="json") == ANSWER_EXAMPLE
    check(ANSWER_EXAMPLE)


def test_retry_after_is_documented() -> None:
    assert "Retry-After" in CERTIFY["responses"]["429"]["headers"]


@pytest.mark.anyio
async def test_the_example_requests_are_answered_as_they_stand() -> None:
    examples = CERTIFY["requestBody"]["content"]["application/json"]["examples"]
    assert len(examples) >= 2
    async with in_process() as service:
        for example in examples.values():
            response = await service.client.post("/certify", json=example["value"])
            assert response.status_code == 200, response.text
            assert check(response.json())["input"]["sha256"] == ANSWER_EXAMPLE["input"]["sha256"]


@pytest.mark.anyio
async def test_the_documentation_is_served() -> None:
    async with in_process() as service:
        assert (await service.client.get("/openapi.json")).json()["info"]["title"] == "certify"
        assert "swagger" in (await service.client.get("/docs")).text
