"""What the network sees of an image, as pictures. Their noise has a seed of its own (seeds.preview_seed)."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
from numpy.typing import NDArray

from ...models.data.pictures import png
from ..backends.base import BackendInfo, Shows
from .answers import input_facts
from .driver import CallLimits, Turn, guard
from .images import Picture
from .plans import chosen_sigmas
from .preview_schemas import Preview, PreviewDraw, PreviewFields, PreviewLevel
from .schemas import BundleName
from .seeds import preview_seed

__all__ = ("passes", "preview")


def passes(fields: PreviewFields, info: BackendInfo) -> int:
    """How often the network runs for it: what it costs, in samples. Raises RequestError."""
    return fields.draws * len(chosen_sigmas(fields.sigmas, info))


async def preview(
    picture: Picture,
    fields: PreviewFields,
    backend: Shows,
    key: bytes,
    *,
    limits: CallLimits,
    turn: Turn,
    request_id: str,
) -> Preview:
    """key: from which all noise is derived. limits, turn: as for driver.drive. Raises BackendUnavailable."""
    info = backend.info()
    kinds = dict(zip(info.sigmas, info.noises, strict=True))
    levels = []
    for sigma in sorted(chosen_sigmas(fields.sigmas, info)):
        seed = preview_seed(key, picture.sha256, info.bundle_digest, sigma)
        async with turn(fields.draws):
            call = backend.pictures(picture.tensor, sigma=sigma, seed=seed, count=fields.draws)
            noisy, denoised = await guard(call, limits.allowed(backend, info.chunk))
        draws = await asyncio.to_thread(_draws, noisy, denoised)
        levels.append(PreviewLevel(sigma=sigma, noise=kinds[sigma], draws=draws))
    return Preview(
        id=request_id,
        image=_png(picture.tensor),
        input=input_facts(picture, info),
        bundle=BundleName(name=info.bundle_name, digest=info.bundle_digest),
        levels=levels,
    )


def _draws(noisy: NDArray[np.float32], denoised: NDArray[np.float32] | None) -> list[PreviewDraw]:
    return [
        PreviewDraw(noisy=_png(each), denoised=None if denoised is None else _png(denoised[k]))
        for k, each in enumerate(noisy)
    ]


def _png(pixels: NDArray[np.float32]) -> str:
    """A data URL. pixels: (C, H, W), of which only [0, 1] can be shown."""
    shown = np.rint(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8)
    file = png(shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1))
    return "data:image/png;base64," + base64.b64encode(file).decode()
