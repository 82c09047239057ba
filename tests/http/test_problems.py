"""What the code says of its problems, held against the code that raises them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from certify import service
from certify.service.answering.fields import parse_texts
from certify.service.answering.plans import make_plan
from certify.service.backends.fake import FAKE_INFO
from certify.service.errors import RequestError
from certify.service.http.problems import CODES

PLACE = Path(service.__file__).parent
SOURCES = sorted(PLACE.rglob("*.py"))


def refusals(path: Path) -> list[tuple[str, set[str], int]]:
    """(code, names of the hints, line) of each RequestError that is made with a code in plain sight."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return [
        (call.args[0].value, {keyword.arg for keyword in call.keywords if keyword.arg}, call.lineno)
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == "RequestError"
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PLACE)))
def test_every_422_names_its_field_and_every_hint_is_documented(path: Path) -> None:
    for code, hints, line in refusals(path):
        assert CODES[code].status != 422 or "field" in hints, f"{path}:{line}"
        assert hints <= set(CODES[code].hints), f"{path}:{line}"


def test_the_sources_have_refusals_of_every_code_that_a_request_can_cause() -> None:
    found = {code for path in SOURCES for code, _, _ in refusals(path)}
    assert {code for code, kind in CODES.items() if kind.status in (413, 415, 422)} <= found


@pytest.mark.parametrize(
    ("code", "text"),
    [("unknown_field", "epsilon=1"), ("out_of_range", "alpha=0.5"), ("unknown_sigma", "sigmas=0.75")],
)
def test_an_example_of_a_problem_is_what_is_said(code: str, text: str) -> None:
    name, _, value = text.partition("=")
    with pytest.raises(RequestError) as refused:
        make_plan(parse_texts({name: [value]}), FAKE_INFO, max_samples_allowed=100_000)
    assert (refused.value.code, refused.value.detail) == (code, CODES[code].example)
