"""Certify every picture of a folder: `certify serve` in one terminal, `python examples/many.py FOLDER` in another."""

import sys
from pathlib import Path

from certify import Client

url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
with Client(url) as client:
    for reply in client.certify_many(Path(sys.argv[1]).glob("*.png"), samples=2_000):
        if reply.answer is None:
            print(reply.image, reply.error)
        else:
            print(reply.image, reply.answer.outcome, reply.answer.radius)
