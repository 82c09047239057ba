"""The pages at / and /docs in a real Chromium, on the shipped digits. What people do: browser/scenarios.mjs.

With -s it says how long the first certificate took.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.answer_rules import check
from tests.browser import PROGRAMS, needs_chromium, run_in_chromium
from tests.servers import ROOT, real_process

pytest.importorskip("openvino", reason="certifies real digits (pip install 'certify[cpu]')")
pytest.importorskip("cryptography", reason="signs (pip install 'certify[signing]')")
pytestmark = needs_chromium()

KEY = "a-key-of-the-page"
DIGIT = ROOT / "examples" / "digits" / "3.png"
SCENARIOS = (
    "a digit is dropped",
    "a reader hears it",
    "errors stand beside their fields",
    "a radius out of reach is refused at its field, one within it is decided early",
    "what was not proved has a next step",
    "a picture of another size is resized, and that is said",
    "the keyboard is enough",
    "a phone needs no scrolling to the side",
    "a signed certificate is saved",
    "it works under a prefix, without previews",
    "a request is stopped",
    "a service that cannot be reached is asked again",
    "a key is asked for only where it is needed, and kept nowhere",
    "the API's page sends a digit with what it fills in",
    "nothing moves for whoever wants calm",
    "axe finds nothing serious, light",
    "axe finds nothing serious, light, phone",
    "axe finds nothing serious, dark",
    "axe finds nothing serious, dark, phone",
)
Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """What each scenario came to, while the services that they asked still run."""
    from certify.service.answering.signing import new_key

    place = tmp_path_factory.mktemp("page")
    (place / "signing.pem").write_text(new_key())
    (place / "keys").write_text(f"visitor {hashlib.sha256(KEY.encode()).hexdigest()} 1000000 1\n")
    with contextlib.ExitStack() as services:

        def serve(name: str, **flags: object) -> str:
            return services.enter_context(real_process(place / f"{name}.log", **flags)).url

        urls = {
            "digits": serve("digits", backend="embedded", signing_key_file=place / "signing.pem"),
            "fake": serve("fake", root_path="/here", fake_delay_seconds=0.2),
            "keys": serve("keys", api_keys_file=place / "keys", cache_answers=10),
        }
        (place / "keys.json").write_bytes(httpx.get(f"{urls['digits']}/v1/keys").content)
        settings = {
            "urls": urls,
            "digit": str(DIGIT),
            "photo": str(ROOT / "examples" / "photos" / "kitten.jpg"),
            # PICTURES=docs/pictures renews those of README.
            "shots": os.environ.get("PICTURES", str(place)),
            "downloads": str(place),
            "key": KEY,
        }
        seen = run_in_chromium(PROGRAMS / "scenarios.mjs", settings, place / "program")
        if "PICTURES" in os.environ:
            # A third of the size, and nobody sees it.
            for path in Path(settings["shots"]).glob("page-*.png"):
                Image.open(path).quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        yield {each["name"]: each for each in seen}


@pytest.mark.parametrize("name", SCENARIOS)
def test_page(results: Results, name: str) -> None:
    assert results.keys() == set(SCENARIOS)
    assert results[name]["error"] is None, results[name]["error"]


@pytest.fixture(scope="module")
def dropped(results: Results) -> dict[str, Any]:
    facts = results["a digit is dropped"]["facts"]
    if facts is None:
        pytest.skip("the scenario itself failed")
    check(facts["answer"])
    served = facts["answer"]["timing"]["total_seconds"]
    sys.stderr.write(
        f"\nfrom the button to the certificate: {facts['seconds']:.2f} s, {served:.2f} s of it in the service\n"
    )
    return dict(facts)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_its_curl_line_repeats_the_answer(dropped: dict[str, Any]) -> None:
    done = subprocess.run(
        ["bash", "-c", dropped["curl"]], cwd=DIGIT.parent, capture_output=True, check=True, timeout=60
    )
    assert same(json.loads(done.stdout)) == same(dropped["answer"])


def test_its_python_lines_repeat_the_answer(dropped: dict[str, Any]) -> None:
    command = [sys.executable, "-W", "error", "-c", dropped["python"] + "\nprint(answer.model_dump_json())"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=DIGIT.parent, env=environment, capture_output=True, check=True, timeout=60)
    assert same(json.loads(done.stdout.splitlines()[-1])) == same(dropped["answer"])


def test_its_certificate_is_good_and_says_the_same(results: Results) -> None:
    facts = results["a signed certificate is saved"]["facts"]
    if facts is None:
        pytest.skip("the scenario itself failed")
    keys = str(Path(facts["file"]).with_name("keys.json"))
    command = [sys.executable, "-m", "certify", "verify", facts["file"], "--key", keys, "--image", str(DIGIT), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(facts["radius"]) in done.stdout


def same(answer: dict[str, Any]) -> dict[str, Any]:
    """Without who asked and how long it took."""
    return {name: value for name, value in answer.items() if name not in ("id", "timing")}
