"""An engine whose classifier is elsewhere: another engine makes the pictures here, an endpoint says their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Manifest
from ..engines import Engine
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
        self.dtype, self.device, self.generator = here.dtype, here.device, here.generator
        self.place, self.noise, self.logits, self.plain = here.place, here.noise, here.logits, here.plain

    @property
    def outdated(self) -> bool:
        """Whether the endpoint is no longer what was packed."""
        return self._endpoint.outdated

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
