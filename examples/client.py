"""Ask a running service: `certify serve` in one terminal, `python examples/client.py FILE` in another."""

import sys
from pathlib import Path

from certify import Client

url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
with Client(url) as client:
    answer = client.certify(Path(sys.argv[1]), radius=0.3)
print(answer.outcome, answer.label.name if answer.label else answer.abstain_reason, answer.radius)
