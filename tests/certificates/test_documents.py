"""What docs/ says of certificates: the JSON Schema of a payload, and the example."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="signs (pip install 'certify[signing]')")

import jsonschema

from certify import verify
from certify.envelope import canonical, opened, signers
from certify.service.answering.evidence_schemas import Evidence, payload_schema
from certify.service.answering.replay import planned_again
from certify.service.answering.signing import PublicKey
from tests.certificates.vectors import FOLDER

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "certificate.schema.json").read_text())
VALID = sorted(FOLDER.glob("valid*.json"))
INVALID = {path.stem: path for path in sorted((FOLDER / "invalid").glob("*.json"))}
# What is wrong with these is their form: a schema can say it.
FORMS = (
    "bundle_digest",
    "bundle_version_is_a_number",
    "classes_without_end",
    "digest_without_its_kind",
    "encoding",
    "exponent",
    "field_missing",
    "field_unknown",
    "flag_is_text",
    "huge_number",
    "input_digest",
    "label_with_a_note",
    "libraries_as_a_list",
    "micro_batch_is_text",
    "noise_unknown",
    "norm",
    "radius_in_another_spelling",
    "real_as_number",
    "request_norm",
    "runtime_is_text",
    "runtime_with_a_note",
    "samples_without_end",
    "time_with_a_zone",
    "version",
    "version_of_a_library_is_a_number",
)


def payload_in(path: Path) -> Any:
    """As JSON alone reads it, however it is written."""
    return json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))


def holds(payload: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(payload))


def test_the_schema_is_that_of_the_code() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA == payload_schema(), "docs/certificate.schema.json: write payload_schema() there"


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_payload_that_holds_is_of_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(payload_in(path))


@pytest.mark.parametrize("name", FORMS)
def test_a_payload_of_another_form_is_not(name: str) -> None:
    assert not holds(payload_in(INVALID[name]))


def test_each_member_is_needed_and_no_other_is_there() -> None:
    def every(here: Any, whole: Any) -> None:
        if isinstance(here, list) and here:
            every(here[0], whole)
        if isinstance(here, dict):
            for name in list(here):
                kept = here.pop(name)
                assert not holds(whole), name
                here[name] = kept
                if name != "libraries":  # any may be named
                    every(kept, whole)
            here["more"] = 1
            assert not holds(whole)
            del here["more"]

    payload = payload_in(VALID[0])
    every(payload, payload)
    assert holds(payload)


def test_the_example_of_the_page_is_a_certificate() -> None:
    text = (DOCS / "certificates.md").read_text()
    payload, signed = (
        json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    )
    written = canonical(payload)
    assert opened(written)[0] == payload
    key = PublicKey(raw=base64.urlsafe_b64decode(signed["key"]["x"] + "="))
    assert key.id == signed["key"]["kid"] == signed["signature"]["keyid"]
    signature = (key.id, base64.b64decode(signed["signature"]["sig"]))
    assert signers(written, [signature], {key.id: key.raw}) == [key.id]
    assert all(check.holds for check in verify.checks(payload, written))
    planned_again(payload)
    assert holds(payload) and Evidence.model_validate(payload)
    assert payload["statement"]["outcome"] == "certified"
