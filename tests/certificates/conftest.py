"""A signing key for the tests of what is signed."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A new key, as CERTIFY_SIGNING_KEY_FILE takes it."""
    from certify.service.answering.signing import new_key  # cryptography is an extra

    path = tmp_path / "signing.pem"
    path.write_text(new_key())
    return path
