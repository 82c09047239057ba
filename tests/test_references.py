"""Comments point to pages that ship, and to sections that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KINDS = {".py", ".yaml", ".yml", ".tpl", ".txt", ".json", ".toml", ".Dockerfile", ""}
FOLDERS = ("service", "models", "benchmarks", "tests", "examples", "helm", "docker", "certify", ".github")
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.suffix in KINDS and path != Path(__file__) and "golden" not in path.parts
)
SECTIONS = set(re.findall(r"^#{2,} (\d+(?:\.\d+)*)\.? ", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE))
POINTER = re.compile(r"docs/protocol\.md(?P<sections>,? \d[\d., and]*\d|,? \d)?")
# Other people's sections follow the source's year or number: "Cohen et al. 2019, section 3", "RFC 4648, section 4".
BARE = re.compile(r"(?<!\d{4}, )\b[Ss]ections? \d")
GONE = re.compile(r"\b(?:statistics|product|architecture|house)\.md\b|\(statistics[,:] ")


def text_of(path: Path) -> str:
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return ""
    return re.sub(r"\s*\n\s*(?:#|//)?\s*", " ", text)  # a pointer may be broken over two lines


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def wrong(text: str) -> list[str]:
    """The pointers that lead nowhere, with what follows them."""
    lost = [match[0] for match in (*BARE.finditer(text), *GONE.finditer(text))]
    for match in POINTER.finditer(text):
        named = re.findall(r"\d+(?:\.\d+)*", match["sections"] or "")
        if not named or not set(named) <= SECTIONS:
            lost.append(text[match.start() : match.end() + 30])
    return lost


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_pointer_leads_to_a_numbered_section(path):
    assert wrong(text_of(path)) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_page_that_is_named_ships(path):
    for page in re.findall(r"\bdocs/[\w/.-]+\.md\b", text_of(path)):
        assert (ROOT / page).exists(), page


def test_the_headings_are_numbered_in_order_without_a_gap():
    headings = re.findall(r"^(#{2,}) (.*)$", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE)
    counts = [0, 0]
    for level, title in headings:
        counts = [counts[0] + 1, 0] if level == "##" else [counts[0], counts[1] + 1]
        expected = f"{counts[0]}." if level == "##" else f"{counts[0]}.{counts[1]}"
        assert title.split()[0] == expected, title


@pytest.mark.parametrize(
    "text",
    [
        "docs/protocol.md",
        "docs/protocol.md, 9.9",
        'docs/protocol.md, "Numbers"',
        "docs/protocol.md (Theorem 3)",
        "(statistics, section 7)",
        "statistics.md, 7",
        "(statistics: Theorem 3)",
        "see section 7",
        "(product.md, soundness rule 3)",
    ],
)
def test_a_pointer_to_nowhere_is_found(text):
    assert wrong(text)


@pytest.mark.parametrize(
    "text",
    ["docs/protocol.md, 2.2 and 3.2).", "docs/protocol.md, 7.", "RFC 4648, section 4", "Ho et al. 2020, section 4"],
)
def test_a_good_pointer_is_left_alone(text):
    assert not wrong(text)
