"""Unit normals of a noise stream, chunk by chunk: two generators, of which each part belongs to the definition.

`cpu-philox-v1`, numpy's, about 95 M normals a second on a core:

    chunk j of seed s = numpy Generator(Philox(key=[s, j], counter=0)).standard_normal((chunk, C, H, W), float32)

numpy's Philox is Philox4x64-10 (Salmon et al. 2011): a 128-bit key, here the words (seed, chunk index), and a 256-bit
counter that starts at 0.

`cuda-philox-v1`, in integer arithmetic of torch tensors, is in models.noise_cuda.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ("CPU_GENERATOR", "CUDA_GENERATOR", "chunk_noise", "numpy_noise")

CPU_GENERATOR = "cpu-philox-v1"
CUDA_GENERATOR = "cuda-philox-v1"


def chunk_noise(seed: int, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """cpu-philox-v1, one chunk. seed: uint64; index: chunk number >= 0; shape: (chunk, C, H, W)."""
    key = np.array([seed, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=0)).standard_normal(shape, dtype=np.float32)


def numpy_noise(seed: int, first: int, count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """cpu-philox-v1, chunks first..first+count-1: (count * chunk, C, H, W)."""
    return np.concatenate([chunk_noise(seed, index, shape) for index in range(first, first + count)])
