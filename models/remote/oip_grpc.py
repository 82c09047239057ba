"""The open inference protocol, version 2, over gRPC, by NVIDIA's client of it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError
from .answers import Answer, Passing, read_answer
from .declared import Remote, parse_url
from .limits import Limits
from .metadata import normal
from .oip_http import DATATYPES
from .pictures import laid_out
from .token import Token

__all__ = ("OipGrpc",)

PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"}
# What the client makes of bytes that do not fill their shape, or are of another type.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error)
# Giving channel arguments drops all of tritonclient's own, so everything that matters stands here.
CHANNEL = (
    ("grpc.max_send_message_length", -1),  # a batch of photographs; the server has a limit of its own
    ("grpc.max_receive_message_length", 64 * 2**20),  # scores of 4,096 pictures in 1,000 classes take 16 MiB
    ("grpc.initial_reconnect_backoff_ms", 100),  # gRPC waits up to two minutes before it tries a lost server again
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class OipGrpc:
    """Make and use it inside one event loop."""

    def __init__(self, url: str, limits: Limits) -> None:
        from tritonclient.grpc.aio import InferenceServerClient

        self._address = parse_url(url)
        self._seconds = limits.seconds
        self._token = Token(limits.token_file)
        self._client = InferenceServerClient(self._address.base, ssl=self._address.secure, channel_args=CHANNEL)

    async def about(self) -> dict[str, Any]:
        """As OipHttp.about."""
        with _translated(self._seconds):
            raw = await self._client.get_model_metadata(
                self._address.model, self._address.version, as_json=True, headers=self._token.headers(),
                client_timeout=self._seconds,
            )  # fmt: skip
        return normal(raw, self._address)

    async def ask(self, pictures: NDArray[np.float32], remote: Remote, names: Sequence[str]) -> Answer:
        """As OipHttp.ask."""
        from tritonclient.grpc import InferInput, InferRequestedOutput

        values = laid_out(pictures, remote.input)
        tensor = InferInput(remote.input.name, list(values.shape), DATATYPES[remote.input.dtype])
        tensor.set_data_from_numpy(values)
        with _translated(self._seconds):
            answer = await self._client.infer(
                self._address.model, [tensor], model_version=self._address.version,
                outputs=[InferRequestedOutput(remote.output.name)],
                headers=self._token.headers(), client_timeout=self._seconds,
            )  # fmt: skip
            found = answer.as_numpy(remote.output.name)
        if found is None:
            raise RemoteError(f"outputs: expected one named {remote.output.name}, got none")
        version = str(answer.get_response().model_version)
        return read_answer(found, remote.output.kind, len(pictures), len(names), version)

    async def close(self) -> None:
        await self._client.close()


@contextlib.contextmanager
def _translated(seconds: float) -> Iterator[None]:
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        status, message = str(error.status()).removeprefix("StatusCode."), str(error.message())[:300]
        if status == "DEADLINE_EXCEEDED":
            raise Passing(f"no answer within {seconds:g} seconds (CERTIFY_REMOTE_SECONDS)") from None
        if status in PASSING:
            raise Passing(f"answered {status}: {message}") from None
        if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            raise RemoteError(
                f"expected to be let in with the token of CERTIFY_REMOTE_TOKEN_FILE, got {status}"
            ) from None
        raise RemoteError(f"expected an answer, got {status}: {message}") from None
    except UNREADABLE as error:
        raise RemoteError(f"expected tensors of their declared shapes, got others: {error}") from error
