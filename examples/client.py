"""Ask a running service: `certify serve` in one terminal, `python examples/client.py FILE` in another."""

import sys

from certify import Client, RequestError

url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
with Client(url, timeout=60) as client:
    try:
        answer = client.certify(sys.argv[1], radius=0.3)
    except RequestError as error:  # what would be right stands in its hints: max_radius, expected_width, ...
        sys.exit(f"{error} {dict(error.hints)}")
print(answer.outcome, answer.label.name if answer.label else answer.abstain_reason, answer.radius)
