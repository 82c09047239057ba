"""Keep a signed answer: with CERTIFY_SIGNING_KEY_FILE=signing.pem `certify serve` in one terminal (`certify keys new`),
`python examples/certificate.py FILE OUT` in another; then `certify verify OUT`, by whoever is to believe it.
"""

import sys
from pathlib import Path

from certify import Client

url = sys.argv[3] if len(sys.argv) > 3 else "http://127.0.0.1:8000"
with Client(url) as client:
    certificate = client.certificate(sys.argv[1])
Path(sys.argv[2]).write_bytes(certificate.envelope)
print(certificate.evidence.statement.outcome, certificate.evidence.statement.radius)
