"""service.http.memory: what bodies took is given back, and only when there was much."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import pytest

from certify.service.http.memory import Trimmer, malloc_trim

MEGABYTE = 2**20


@pytest.mark.anyio
async def test_it_trims_after_much_has_come_and_not_for_ever() -> None:
    trims: list[str] = []
    came = 0
    trimmer = Trimmer(lambda: trims.append(threading.current_thread().name), lambda: came)
    came += 15 * MEGABYTE
    await trimmer.look()
    assert not trims
    came += MEGABYTE
    for _ in range(20):
        await trimmer.look()
    assert len(trims) == 10 and threading.main_thread().name not in trims
    came += 16 * MEGABYTE
    await trimmer.look()
    assert len(trims) == 11


def test_a_trim_gives_freed_memory_back() -> None:
    trim = malloc_trim()
    if trim is None:
        pytest.skip("this C library has no malloc_trim")
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)
    pieces = [libc.malloc(60_000) for _ in range(2_000)]  # 120 MB, in pieces that come from the heap
    for piece in pieces:
        ctypes.memset(piece, 1, 60_000)
    for piece in pieces[:-1]:  # the last holds the heap's end where it is
        libc.free(piece)
    before = _resident()
    trim()
    assert before - _resident() > 50 * MEGABYTE
    libc.free(pieces[-1])


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
