"""What is said in several places is said alike."""

import re
import tomllib
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

import certify
from certify.service.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models/bundles").glob("*/README.md")])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_version_package_and_changelog_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is not None
    assert version == certify.__version__ == releases[0] == citation[1]
    # Unreleased stands on top, and everything else under it has a date.
    assert re.findall(r"^## .*$", changelog, re.MULTILINE)[0] == "## Unreleased"
    assert len(re.findall(r"^## ", changelog, re.MULTILINE)) == len(releases) + 1


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_into_the_repository_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!http|mailto)([^)#]*)#?([^)]*)\)", page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`make ([a-z-]+)[`\s]|^\$ make ([a-z-]+)", page.read_text(), re.MULTILINE)
    assert {a or b for a, b in named} <= TARGETS


def commands() -> list[str]:
    """`certify ...` as the pages write it, up to the first word that is no subcommand."""
    text = "\n".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    return sorted(set(re.findall(r"(?:^\$ |`)certify ((?:bundles )?[a-z-]+)", text, re.MULTILINE)))


@pytest.mark.parametrize("command", commands())
def test_every_command_that_a_page_names_exists(command: str) -> None:
    found = typer.main.get_command(app)
    for word in command.split():
        assert isinstance(found, TyperGroup), command
        inner = found.get_command(typer.Context(found), word)  # it is loaded when it is asked for
        assert inner is not None, command
        found = inner


def test_no_page_names_a_module_that_went() -> None:
    """`python -m` runs what is there, and nothing that `certify` runs now. Cards and changelog tell of the past."""
    for page in PAGES:
        if page.name != "CHANGELOG.md" and "bundles" not in page.parts:
            for module in re.findall(r"python -m ([\w.]+)", page.read_text()):
                assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), f"{page.name}: {module}"
                assert module.startswith("benchmarks."), f"{page.name}: {module}"


def test_no_page_takes_certify_from_an_index_where_it_is_not() -> None:
    """By its name pip would install what somebody else has put there. README says it of an installed one, with X."""
    for page in (*PAGES, *(ROOT / "examples").rglob("*.py")):
        assert not re.findall(r"pip install \S*certify(?!\[X\]|-X\.Y\.Z)\b.*", page.read_text()), page.name


def test_every_path_in_the_file_map_exists():
    paths = re.findall(r"^\| `([\w/]+/)`", README, re.MULTILINE)
    assert len(paths) >= 10
    assert all((ROOT / path).is_dir() for path in paths)


FORMS = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_what_others_read_is_yaml(path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="pip install 'certify[deploy]'")
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_ci_runs_every_python_that_is_supported_and_commands_that_exist() -> None:
    yaml = pytest.importorskip("yaml", reason="pip install 'certify[deploy]'")
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert {target for line in lines for target in re.findall(r"make ([a-z-]+)", line)} <= TARGETS
    assert all((ROOT / name).exists() for line in lines for name in re.findall(r"\S+\.py", line))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for job in jobs.values():
        assert f">={job['strategy']['matrix']['python'][0]}" == project["requires-python"]
