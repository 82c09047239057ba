"""schemathesis, a stranger to this code: whatever the document lets it send is answered as the document says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import real_process

pytestmark = pytest.mark.slow

CASES = 30  # for each operation, in each of two ways; 2,000 in all were run by hand
# What JSON Schema cannot say is refused though it fits: text that is no image, a radius out of reach, ...
NOT_CHECKED = "positive_data_acceptance"
# A deadline of a millisecond comes too early, and the fake backend shows nothing: these are answers.
# Runs the command after it without holding refusals back: all of these would wait for minutes.
PROMPT = [
    sys.executable,
    "-c",
    "import runpy, sys; from certify.service.http import admission; admission._HELD_BACK_SECONDS = 0.0; "
    "sys.argv[:] = sys.argv[3:]; runpy.run_module('certify', run_name='__main__')",
]
CONFIG = '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "4xx", 501, 504]\n'


def test_the_service_keeps_to_its_document(tmp_path: Path) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("needs pip install schemathesis")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    with real_process(tmp_path / "log", prefix=PROMPT) as service:
        command = ["run", f"{service.url}/openapi.json", f"--exclude-checks={NOT_CHECKED}", f"--max-examples={CASES}"]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "--config-file", str(tmp_path / "schemathesis.toml"), *command]
            + ["--generation-deterministic", "--phases=examples,coverage,fuzzing", "--continue-on-failure"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
        assert service.metric('certify_errors_total{code="internal_error"}') == 0
        assert service.metric("certify_queue_depth") == 0
