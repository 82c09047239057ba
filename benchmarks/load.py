"""A load generator that costs little: prepared requests on raw sockets, in a process of its own.

    python -m benchmarks.load --port 8000 --clients 8 --seconds 5 --images DIR --fields '{"radius": 0.25}'

Each client asks again as soon as it is answered. An answer is searched for the two numbers that are needed, not parsed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ("Load", "load")

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_SAMPLES = re.compile(rb'"samples_used":(\d+)')
_BOUNDARY = "load-generator"


@dataclass(frozen=True, kw_only=True)
class Load:
    """seconds: of each answer; samples: that it says it used. The rest is of the whole spell."""

    seconds: list[float]
    samples: list[int]
    elapsed: float
    cpu_seconds: float  # of the generator


def load(port: int, images: Path, fields: dict[str, object], *, clients: int, seconds: float) -> Load:
    """A spell of load, in another process. Raises CalledProcessError for an answer that is none."""
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(port), "--clients", str(clients)]
    command += ["--seconds", str(seconds), "--images", str(images), "--fields", json.dumps(fields)]
    return Load(**json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--images", type=Path, required=True, help="a folder of PNG files")
    parser.add_argument("--fields", default="{}", help="of the form, as JSON")
    asked = parser.parse_args()
    images = [path.read_bytes() for path in sorted(asked.images.glob("*.png"))]
    requests = [_request(image, json.loads(asked.fields)) for image in images]
    print(json.dumps(asdict(asyncio.run(_spell(asked.port, requests, asked.clients, asked.seconds)))))


def _request(image: bytes, fields: dict[str, object]) -> bytes:
    parts = [f'name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    parts.append(b'name="image"; filename="image.png"\r\nContent-Type: image/png\r\n\r\n' + image + b"\r\n")
    start = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
    body = b"".join(start + part for part in parts) + f"--{_BOUNDARY}--\r\n".encode()
    head = (
        "POST /certify HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _spell(port: int, requests: list[bytes], clients: int, seconds: float) -> Load:
    numbers = itertools.count()
    took: list[float] = []
    samples: list[int] = []
    began, cpu = time.perf_counter(), time.process_time()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            writer.write(requests[next(numbers) % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if not head.startswith(b"HTTP/1.1 200") or (used := _SAMPLES.search(body)) is None:
                raise SystemExit(f"expected an answer, got {head[:40]!r} {body[:200]!r}")
            took.append(time.perf_counter() - start)
            samples.append(int(used[1]))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed = time.perf_counter() - began
    return Load(seconds=took, samples=samples, elapsed=elapsed, cpu_seconds=time.process_time() - cpu)


if __name__ == "__main__":
    main()
