"""A `certify serve` of our own on a free port, and held-out pictures to send it. Needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from certify.models.triton.server import free_ports

__all__ = ("DIGITS", "FASHION", "Service", "service")

# A held-out picture of each class, in the bundles' order: neither training nor the choice of thresholds has seen them.
_EXAMPLES = Path(__file__).parents[1] / "examples"
DIGITS = tuple(_EXAMPLES / "digits" / f"{digit}.png" for digit in range(10))
_CLOTHES = "t-shirt-top trouser pullover dress coat sandal shirt sneaker bag ankle-boot"
FASHION = tuple(_EXAMPLES / "fashion" / f"{name}.png" for name in _CLOTHES.split())
START_SECONDS = 120  # a cold disk reads torch's gigabyte slowly


@dataclass(frozen=True)
class Service:
    """A process that is ready to answer."""

    url: str
    pid: int


@contextmanager
def service(*options: str) -> Iterator[Service]:
    """It runs with these options of `certify serve`; it is stopped at the end, and its log shown if anything failed."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "certify", "serve", "--port", str(port), *options]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "CERTIFY_LOG_LEVEL": "warning"})
        try:
            _wait_ready(url, process)
            yield Service(url, process.pid)
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
