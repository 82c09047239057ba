"""The page at /: what is served, and its words. What a browser makes of it is in test_page_browser.py."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.answer_rules import check
from tests.servers import ROOT, InProcess, in_process

pytestmark = pytest.mark.anyio


def addresses(page: str) -> set[str]:
    return set(re.findall(r'(?:src|href)="([^"]*)"', page))


async def modules(service: InProcess, name: str) -> set[str]:
    """The scripts that a script of the page needs, and it."""
    script = (await service.client.get(f"/page/{name}")).text
    needed = {name}
    for imported in re.findall(r'from "\./([\w.]+)"', script):
        needed |= await modules(service, imported)
    return needed


async def test_all_that_the_page_needs_is_served_here_and_nothing_of_it_is_inline() -> None:
    async with in_process() as service:
        page = await service.client.get("/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert addresses(page.text) >= {"page/page.css", "page/answer.css", "page/page.js", "page/icon.svg", "docs"}
        for url in addresses(page.text):
            assert not url.startswith(("/", "http")), url
            assert (await service.client.get("/" + url)).status_code == 200, url
        assert not re.search(r"<script>|<style|\son\w+=|\sstyle=|javascript:", page.text)
        for name in await modules(service, "page.js"):
            assert (await service.client.get(f"/page/{name}")).headers["Content-Type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/page/page.css", "/page/icon.svg", "/page/digit.png"])
async def test_every_file_has_the_policy_and_is_kept_until_it_changes(path: str) -> None:
    async with in_process() as service:
        response = await service.client.get(path)
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        known = {"If-None-Match": response.headers["ETag"]}
        assert (await service.client.get(path, headers=known)).status_code == 304
        assert (await service.client.get(path, headers={"If-None-Match": "*"})).status_code == 304
        assert (await service.client.get(path, headers={"If-None-Match": '"another"'})).status_code == 200
        assert (await service.client.head(path)).headers["Content-Length"] == str(len(response.content))


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/index.html", "/page/..%2Fapp.py", "/page/", "/page"])
async def test_nothing_else_is_served_from_there(path: str) -> None:
    async with in_process() as service:
        response = await service.client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/page/digit.png"])
async def test_without_the_page_there_is_nothing(path: str) -> None:
    async with in_process(page=False) as service:
        assert (await service.client.get(path)).json()["code"] == "not_found"


@pytest.mark.parametrize("path", ["/", "/here/", "/here"])
async def test_under_a_prefix_the_addresses_are_of_it_with_or_without_a_slash(path: str) -> None:
    async with in_process(root_path="/here") as service:
        page = (await service.client.get(path)).text
        assert re.findall('<base href="([^"]*)"', page) == ["/here/"]
        assert page.index("<base") < page.index("<link")
    async with in_process() as service:
        assert "<base" not in (await service.client.get("/")).text


async def test_the_example_is_a_digit_that_is_certified_as_it_is() -> None:
    async with in_process() as service:
        digit = await service.client.get("/page/digit.png")
        files = {"image": ("digit.png", digit.content, digit.headers["Content-Type"])}
        answer = await service.client.post("/v1/certify", files=files, data={"samples": "1000"})
        assert check(answer.json())["input"]["resized"] is False


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.skipif(not (ROOT / "service").is_dir(), reason="needs the sources")
def test_its_words_say_what_answers_say() -> None:
    command = ["node", "--test", "tests/http/browser/words.test.mjs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
