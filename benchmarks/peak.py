"""How much of the machine a bundle uses: its arithmetic a second, against matrix products and convolutions alone.

The peaks are measured here and now, in torch, as the fastest of some shapes: what this machine gives to arithmetic that
is nothing but multiply-adds over large, dense tensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import conv2d

from benchmarks.cost import size
from benchmarks.report import progress, table
from certify.models.bundle import find_bundle

__all__ = ("mflop", "peak", "share_text", "wait")

SPELL_SECONDS = 0.15  # of one timing: a few products of the largest size on two cores


def peak(dtypes: Sequence[str], *, device: str = "cpu", threads: int = 1, seconds: float) -> dict[str, Any]:
    """GFLOP/s by dtype, of "matmul" and "convolution". seconds: spent on each of them. threads: of a CPU."""
    torch.set_num_threads(threads)
    peaks: dict[str, Any] = {}
    for dtype in dtypes:
        kinds = {"matmul": _products(dtype, device), "convolution": _convolutions(dtype, device)}
        peaks[dtype] = {kind: _fastest(list(shapes), device, seconds) for kind, shapes in kinds.items()}
        progress(f"  {device}, {dtype}: " + ", ".join(f"{k} {v:,.0f} GFLOP/s" for k, v in peaks[dtype].items()))
    return peaks


def mflop(bundle: str) -> float:
    """MFLOP of one sample, a multiply-add being two."""
    return size(find_bundle(bundle))["mflop_per_sample"]


def share_text(rows: Sequence[tuple[str, str, float, float]], peaks: dict[str, Any]) -> str:
    """rows: (what, dtype, MFLOP a sample, samples a second)."""
    cells = []
    for what, dtype, cost, rate in rows:
        done = cost * rate / 1000  # GFLOP/s
        shares = [f"{done / peaks[dtype][kind]:.0%}" for kind in ("matmul", "convolution")]
        cells.append([what, dtype, f"{cost:,.1f}", f"{rate:,.0f}", f"{done:,.0f}", *shares])
    head = [
        "",
        "dtype",
        "MFLOP a sample",
        "samples a second",
        "GFLOP/s",
        "of the matrix peak",
        "of the convolution peak",
    ]
    return "\n\n".join(
        [
            "Peaks measured in the same run, GFLOP/s:",
            table(
                ["dtype", "matrix product", "convolution"],
                [[d, f"{p['matmul']:,.0f}", f"{p['convolution']:,.0f}"] for d, p in peaks.items()],
            ),
            table(head, cells),
        ]
    )


def _products(dtype: str, device: str) -> Iterator[tuple[Callable[[], object], float]]:
    """(call, FLOP)."""
    for n in (1024, 2048) if device == "cpu" else (4096, 8192):
        a, b = (torch.randn(n, n, device=device).to(getattr(torch, dtype)) for _ in range(2))
        yield partial(torch.mm, a, b), 2.0 * n**3


def _convolutions(dtype: str, device: str) -> Iterator[tuple[Callable[[], object], float]]:
    """3x3, at the width of a small UNet's middle and of a large one's."""
    batch = 16 if device == "cpu" else 512
    for channels, side in ((128, 32), (256, 16)):
        x = torch.randn(batch, channels, side, side, device=device).to(getattr(torch, dtype))
        w = torch.randn(channels, channels, 3, 3, device=device).to(getattr(torch, dtype))
        for form in (torch.contiguous_format, torch.channels_last):
            x, w = x.contiguous(memory_format=form), w.contiguous(memory_format=form)
            yield partial(conv2d, x, w, padding=1), 2.0 * batch * side**2 * channels**2 * 9


def _fastest(shapes: list[tuple[Callable[[], object], float]], device: str, seconds: float) -> float:
    """GFLOP/s of the fastest spell of the fastest shape, which take turns."""
    best = 0.0
    with torch.inference_mode():
        for call, _ in shapes:
            call()
        began = time.perf_counter()
        while not best or time.perf_counter() - began < seconds:
            for call, flop in shapes:
                best = max(best, _spell(call, device) * flop / 1e9)
    return best


def _spell(call: Callable[[], object], device: str) -> float:
    """Calls a second over SPELL_SECONDS."""
    wait(device)
    began, calls, many = time.perf_counter(), 0, 1
    while time.perf_counter() - began < SPELL_SECONDS:
        for _ in range(many):
            call()
        wait(device)
        calls, many = calls + many, many * 2  # waiting for a GPU after each call would count as work
    return calls / (time.perf_counter() - began)


def wait(device: str) -> None:
    """Wait until the device has done what was asked of it."""
    if device == "cuda":
        torch.cuda.synchronize()
