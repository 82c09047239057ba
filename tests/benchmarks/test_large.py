"""The command that packs the literature's networks, on a small one."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("openvino")
pytest.importorskip("diffusers")

from benchmarks.large import NETWORKS, Network, checkpoint, measured

SMALL = (
    "--image_size 32 --num_channels 32 --num_res_blocks 1 --learn_sigma True --diffusion_steps 100 "
    "--noise_schedule cosine"
)
pytestmark = pytest.mark.slow


def test_a_network_is_written_converted_packed_and_certifies_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "small", Network(32, 128, lambda to: checkpoint(SMALL, "improved", to)))
    name, dtype, packed, draw, image = measured("small", tmp_path / "small", "float32", None)
    assert (name, dtype) == ("small", "float32")
    assert "GiB" in packed and "GFLOP" in draw and "openvino-graph-1" in draw
    assert image.startswith("128: ") and "of a core" in image
    assert not (tmp_path / "small").exists()
