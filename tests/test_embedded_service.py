"""The whole thing: a real `certify serve` process, the embedded backend, the shipped bundle, real digits over HTTP."""

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytest.importorskip("torch", reason="the embedded backend needs torch (pip install 'certify[torch]')")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn (pip install 'certify[train]')")

from PIL import Image

from certify.models.train.data import digits_split, load_digits
from tests.answer_rules import check
from tests.servers import Process, real_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("embedded") / "log"
    with real_process(log, backend="embedded", max_queued=64) as process:
        yield process


@pytest.fixture(scope="module")
def digits() -> list[tuple[str, bytes]]:
    """(true label, PNG file) of the first twenty held-out images."""
    data = load_digits()
    files = []
    for index in digits_split().held_out[:20]:
        buffer = io.BytesIO()
        Image.fromarray(data.pixels[index]).save(buffer, "PNG")
        files.append((str(data.labels[index]), buffer.getvalue()))
    return files


def certify(server: Process, image: bytes, **fields: object) -> dict:
    reply = httpx.post(f"{server.url}/certify", files={"image": image}, data=fields, timeout=600)
    assert reply.status_code == 200, reply.text
    answer = check(reply.json())
    # Who asked and how long it took may differ; nothing else may.
    return {name: value for name, value in answer.items() if name not in ("id", "timing")}


def test_held_out_digits_are_certified_as_what_they_are(server, digits):
    answers = [(true, certify(server, image, samples=2_000)) for true, image in digits]
    right = [a for true, a in answers if a["label"] and a["label"]["name"] == true]
    assert len(right) >= 18
    assert sum(a["radius"] for a in right) / len(answers) > 0.25


def test_the_same_request_has_the_same_answer_alone_and_beside_sixteen_others(server, digits):
    image = digits[0][1]
    alone = certify(server, image, samples=3_000)
    assert certify(server, image, samples=3_000) == alone
    with ThreadPoolExecutor(17) as crowd:
        same = crowd.submit(certify, server, image, samples=3_000)
        others = [
            crowd.submit(
                certify, server, digits[i % 20][1], samples=1_000 + 32 * i, **({"radius": 0.2} if i % 2 else {})
            )
            for i in range(16)
        ]
        assert same.result() == alone
        assert all(other.result()["samples_used"] <= 1_000 + 32 * i for i, other in enumerate(others))


@pytest.mark.parametrize("change", [{"samples": 4_032}, {"alpha": 0.0011}, {"radius": 0.200001}], ids=str)
def test_a_hardly_different_request_gets_other_noise(server, digits, change):
    """These requests take the same looks, so that with the same noise their counts would be equal too."""

    def counts(image, **fields):
        (stage,) = certify(server, image, **({"sigmas": 0.5, "samples": 4_000, "radius": 0.2} | fields))["stages"]
        return stage["samples"], stage["count"], stage["rival_count"]

    pairs = [(counts(image), counts(image, **change)) for _, image in digits[:8]]
    comparable = [(a, b) for a, b in pairs if a[0] == b[0] > 0]
    assert comparable
    assert any(a != b for a, b in comparable)
    assert counts(digits[0][1]) == pairs[0][0]


def test_a_deadline_gets_a_sound_partial_answer_or_a_504(server, digits):
    reply = httpx.post(
        f"{server.url}/certify",
        files={"image": digits[2][1]},
        data={"samples": 100_000, "deadline_ms": 1_500},
        timeout=60,
    )
    assert reply.status_code in (200, 504)
    if reply.status_code == 200:
        assert check(reply.json())["samples_used"] < 100_000


def peak_bytes(server: Process) -> int:
    with open(f"/proc/{server.popen.pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc, which only Linux has")
def test_peak_memory_does_not_grow_with_samples(server, digits):
    for _ in range(3):  # settle allocator and thread pools first
        certify(server, digits[3][1], samples=1_000)
    small = peak_bytes(server)
    certify(server, digits[3][1], samples=100_000)
    assert peak_bytes(server) - small <= 20 * MEBIBYTE


def test_certify_image_says_what_the_service_says(server, digits, tmp_path):
    """The same facts in the same words, with and without a server."""
    file = tmp_path / "digit.png"
    file.write_bytes(digits[4][1])
    command = [sys.executable, "-m", "certify", "image", str(file), "--samples", "1000", "--json"]
    here = subprocess.run([*command, "--seed", "7"], capture_output=True, text=True, check=True).stdout
    again = subprocess.run([*command, "--seed", "7"], capture_output=True, text=True, check=True).stdout
    there = subprocess.run([*command, "--url", server.url], capture_output=True, text=True, check=True).stdout
    first, second, remote = (json.loads(text) for text in (here, again, there))
    facts = {"label", "radius", "sigma", "stages", "input", "bundle", "runtime"}
    assert facts <= first.keys() and facts <= remote.keys()
    assert {k: first[k] for k in facts} == {k: second[k] for k in facts}
    assert first["input"] == remote["input"] and first["bundle"] == remote["bundle"]
