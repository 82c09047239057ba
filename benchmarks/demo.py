"""`make demo`: start the service, certify ten held-out digits over HTTP, show what came back, stop the service.

The images are PNG files drawn from scikit-learn's digits; none of them was seen in training or in choosing thresholds.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from models.train.data import digits_split, load_digits

SAMPLES = 2_000  # a fifth of the default: a laptop answers in about a second, with radii a little smaller
START_SECONDS = 120  # a cold disk reads torch's gigabyte slowly


@contextmanager
def service() -> Iterator[str]:
    """The address of a `certify serve` of our own on a free port, stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "CERTIFY_LOG_LEVEL": "warning"})
        try:
            _wait_ready(url, process)
            yield url
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read())
            raise
        finally:
            process.terminate()
            process.wait()


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the service ended with code {process.returncode}; its log follows")
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    raise SystemExit(f"the service was not ready within {START_SECONDS} seconds")


def write_digits(folder: Path) -> list[tuple[int, Path]]:
    """One held-out image of each digit, as PNG files: (true label, path)."""
    digits = load_digits()
    held_out = digits_split().held_out
    files = []
    for label in range(10):
        index = next(i for i in held_out if digits.labels[i] == label)
        path = folder / f"digit-{index}.png"
        Image.fromarray(digits.pixels[index]).save(path)
        files.append((label, path))
    return files


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, service() as url:
        print(f"serving on {url}\n")
        print(f"{'true':>4}  {'label':>5}  {'sigma':>5}  {'radius':>8}  {'samples':>7}  {'seconds':>7}")
        answer: dict[str, Any] = {}
        for label, path in write_digits(Path(folder)):
            reply = httpx.post(
                f"{url}/certify", files={"image": path.read_bytes()}, data={"samples": SAMPLES}, timeout=60
            )
            reply.raise_for_status()
            answer = reply.json()
            print(row(label, answer), flush=True)
        print(f"\nthe last answer, whole:\n{json.dumps(answer, indent=2)}")


def row(true_label: int, answer: dict[str, Any]) -> str:
    label = answer["label"]["name"] if answer["label"] else "-"
    sigma = answer["sigma"] or answer["abstain_reason"]
    cells = f"{true_label:>4}  {label:>5}  {sigma:>5}  {answer['radius']:>8.6f}  {answer['samples_used']:>7}"
    return f"{cells}  {answer['timing']['total_seconds']:>7.2f}"


if __name__ == "__main__":
    main()
