"""The service on a machine that has openvino and none of torch: real digits over HTTP, in a process of its own."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.recorded_requests import RECORDED
from tests.servers import ROOT, real_process

pytest.importorskip("openvino", reason="needs pip install 'certify[cpu]'")
ABSENT = ("torch", "torchvision", "diffusers", "timm", "safetensors", "scipy.stats", "matplotlib", "pandas", "sklearn")
BLOCK = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in {ABSENT!r}):
            raise ModuleNotFoundError(name + " is blocked")
sys.meta_path.insert(0, Block())
"""


@pytest.mark.slow
def test_digits_are_certified_without_torch(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    prefix = ("env", f"PYTHONPATH={tmp_path}")
    for name in ABSENT:  # or this shows nothing
        done = subprocess.run(
            [*prefix, sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False
        )
        assert f"{name} is blocked" in done.stderr
    recorded = json.loads(RECORDED.read_text())
    with real_process(tmp_path / "log", prefix=prefix, backend="embedded", bundle="digits", workers=1) as service:
        service.wait_ready()
        for image, answer in list(zip(recorded["digits_images"], recorded["digits"], strict=True))[:4]:
            files = {"image": base64.b64decode(image)}
            found = httpx.post(f"{service.url}/certify", files=files, data={"samples": "2000"}, timeout=None).json()
            assert (found["outcome"], found["label"]) == ("certified", answer["label"])
            assert found["runtime"]["engine"] == "openvino-graph-1"


def test_a_bundle_without_a_graph_says_what_is_missing(tmp_path: Path) -> None:
    code = (
        BLOCK
        + f"""
import dataclasses, shutil
from pathlib import Path
from certify.models.bundle import file_digests, find_bundle, load_manifest, save_manifest
from certify.models.errors import BundleError
from certify.models.runtime import RuntimeOptions, load_pipeline
folder = Path(shutil.copytree(find_bundle("digits"), {str(tmp_path / "older")!r}))
shutil.rmtree(folder / "graph")
save_manifest(dataclasses.replace(load_manifest(folder), files=file_digests(folder), timesteps=()), folder)
try:
    load_pipeline(folder, RuntimeOptions(engine="openvino-graph-1"))
except BundleError as error:
    print(error)
"""
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "older: expected a graph; a bundle without one needs torch (pip install 'certify[cpu,torch]')" in done.stdout
