"""Watch a radius grow, awaiting: `certify serve` in one terminal, `python examples/watch.py FILE` in another."""

import asyncio
import sys

from certify import AsyncClient, Progress


def show(progress: Progress) -> None:
    """What is proved so far stands, whatever comes after."""
    print(f"{progress.samples} of {progress.samples_limit} samples: radius {progress.radius}")


async def main() -> None:
    url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
    async with AsyncClient(url) as client:
        answer = await client.certify(sys.argv[1], progress=show, samples=20_000)
    print(answer.outcome, answer.radius)


asyncio.run(main())
