from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate

from certify.service.answering.schemas import CertifyAnswer, CertifyFields, Problem
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.http.app import create_app
from certify.service.http.examples import ANSWER_EXAMPLE, DIGIT
from certify.service.http.problems import CODES
from certify.service.settings import load_settings
from tests.answer_rules import check
from tests.servers import in_process

SCHEMA: dict[str, Any] = create_app(load_settings(backend="fake"), FakeBackend()).openapi()
CERTIFY = SCHEMA["paths"]["/v1/certify"]["post"]


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
        schema = SCHEMA["components"]["schemas"][content["schema"]["$ref"].rsplit("/", 1)[1]]
        assert schema["properties"]["status"] == {"type": "integer", "const": status}
        for code, example in content["examples"].items():
            assert code in schema["properties"]["code"]["enum"]
            problem = Problem.model_validate(example["value"])
            assert (problem.code, problem.status, CODES[code].status) == (code, status, status)
            validate(example["value"], {**schema, "additionalProperties": False, "components": SCHEMA["components"]})
            documented.add(code)
    # These belong to no path, method and origin that is right.
    assert documented == set(CODES) - {"not_found", "method_not_allowed", "origin_not_allowed"}


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


def test_a_form_and_json_document_the_same_fields_and_the_form_comes_first() -> None:
    content = CERTIFY["requestBody"]["content"]
    assert list(content) == ["multipart/form-data", "application/json"]
    assert [content[kind]["schema"]["$ref"].rsplit("/", 1)[1] for kind in content] == ["CertifyForm", "CertifyJson"]
    for name in ("CertifyForm", "CertifyJson"):
        schema = SCHEMA["components"]["schemas"][name]
        assert set(schema["properties"]) == {"image", *CertifyFields.model_fields}
        assert schema["required"] == ["image"]


def test_operation_ids_are_words_and_every_answer_names_its_headers() -> None:
    operations = [operation for path in SCHEMA["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids) and all(each.isalpha() for each in ids)
    for operation in operations:
        for status, answer in operation["responses"].items():
            retry = {"Retry-After"} if status in ("429", "503") else set()
            assert set(answer["headers"]) == {"X-Request-ID", "Server-Timing"} | retry


def test_the_answer_example_follows_the_schema_and_the_contracts_rules() -> None:
    assert CERTIFY["responses"]["200"]["content"]["application/json"]["example"] == ANSWER_EXAMPLE
    assert CertifyAnswer.model_validate(ANSWER_EXAMPLE).model_dump(mode="json") == ANSWER_EXAMPLE
    check(ANSWER_EXAMPLE)


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
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8)], ids=str)
async def test_the_examples_suit_what_is_served(shape: tuple[int, int, int]) -> None:
    info = replace(FAKE_INFO, input_shape=shape, sigmas=(0.01, 0.02), thresholds=(0.5, 0.5))
    async with in_process(FakeBackend(info), max_samples=1500) as service:
        schema = (await service.client.get("/openapi.json")).json()
        for path in ("/v1/certify", "/certify"):
            content = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            for example in content["examples"].values():
                response = await service.client.post(path, json={"samples": 1500} | example["value"])
                assert response.status_code == 200, response.text
        batch = schema["paths"]["/v1/certify/batch"]["post"]["requestBody"]["content"]["application/json"]
        for example in batch["examples"].values():
            response = await service.client.post("/v1/certify/batch", json={"samples": 1500} | example["value"])
            assert [set(json.loads(line)) for line in response.text.split()] == [{"index", "name", "answer"}] * 2
        # What Swagger UI fills a form with, beside a file that somebody chooses.
        schema = (await service.client.get("/docs/openapi.json")).json()
        for path, form in (("/v1/certify", "CertifyForm"), ("/v1/certify/batch", "CertifyBatchForm")):
            fields = schema["components"]["schemas"][form]["properties"]
            filled = {name: field["examples"][0] for name, field in fields.items() if name != "image"}
            texts = {name: json.dumps(value).strip('"') for name, value in filled.items()}
            response = await service.client.post(path, data=texts, files={"image": ("a.png", DIGIT)})
            assert response.status_code == 200 and '"problem"' not in response.text, response.text


@pytest.mark.anyio
async def test_where_keys_are_needed_the_document_says_so(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"camera {'0' * 64} 1000 1\n")
    async with in_process(api_keys_file=str(tmp_path / "keys")) as service:
        schema = (await service.client.get("/openapi.json")).json()
    assert schema["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert schema["paths"]["/v1/certify"]["post"]["security"] == [{"key": []}]
    assert "security" not in CERTIFY
