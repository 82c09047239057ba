"""An engine whose classifier is elsewhere: another engine makes the pictures here, an endpoint says their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Manifest
from ..engines import Engine
from ..noise import numpy_noise
from ..noise_laws import Law
from .declared import Remote
from .endpoint import Endpoint
from .limits import Limits

__all__ = ("RemoteEngine",)


class RemoteEngine:
    """In place of logits it has the pictures that are asked about; its labels are what the endpoint says."""

    def __init__(self, here: Engine, manifest: Manifest, limits: Limits) -> None:
        """here: of the bundle's graph, or of its denoiser and Preprocessing. Asks the endpoint known pictures.

        Raises RemoteError unless it can be asked, and is what was packed.
        """
        self.here = here
        remote = Remote.of(manifest.remote)
        self._endpoint = Endpoint(remote.url, limits)
        try:
            self._endpoint.open(remote, manifest.classes)
        except BaseException:
            self._endpoint.close()
            raise
        model = self._endpoint.model
        self.name = f"{here.name}+remote" + (f"({model})" if model else "")
        self.dtype, self.device = here.dtype, here.device
        self.place, self.logits, self.denoised, self.plain = here.place, here.logits, here.denoised, here.plain

    @property
    def outdated(self) -> bool:
        """Whether the endpoint is no longer what was packed."""
        return self._endpoint.outdated

    def noise(self, law: Law, seed: int, first: int, count: int, shape: tuple[int, ...]) -> Any:
        """None is left open: a picture that is asked twice costs twice."""
        return self.here.place(numpy_noise(law, seed, first, count, shape))

    def fetch(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def labels(self, logits: Any) -> NDArray[np.int64]:
        """The endpoint's classes of pictures, as logits() and plain() give them. Raises RemoteError."""
        pictures = np.ascontiguousarray(self.here.fetch(logits), dtype=np.float32)
        if not np.isfinite(pictures).all():
            raise FloatingPointError("the network's pictures for the remote classifier are not finite")
        return self._endpoint.labels(pictures)

    def counts(self, labels: NDArray[np.int64], places: int) -> NDArray[np.int64]:
        return np.bincount(labels, minlength=places)

    def close(self) -> None:
        """Give up what is asked, and ask nothing more."""
        self._endpoint.close()
