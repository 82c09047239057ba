"""What is said in several places is said alike."""

import re
import tomllib
from pathlib import Path

import certify

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_version_package_and_changelog_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "docs/changelog.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert version == certify.__version__ == newest[1]


def test_every_link_into_the_repository_leads_somewhere():
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_make_target_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)`|\$ make ([a-z]+)", README))
    assert {a or b for a, b in named} <= targets


def test_every_path_in_the_file_map_exists():
    paths = re.findall(r"^\| `([\w/]+/)`", README, re.MULTILINE)
    assert len(paths) >= 5
    assert all((ROOT / path).is_dir() for path in paths)
