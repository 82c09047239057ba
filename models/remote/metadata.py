"""What an endpoint of the open inference protocol says of its model, in one form for HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RemoteError
from .declared import Address

__all__ = ("normal",)


def normal(raw: Mapping[str, Any], address: Address) -> dict[str, Any]:
    """{"versions", "platform", "inputs", "outputs"}, of which what an endpoint does not say is empty.

    versions: where the address names one, that one alone. Raises RemoteError.
    """
    try:
        versions = sorted(str(version) for version in raw.get("versions") or ())
        described = {
            "versions": versions,
            "platform": str(raw.get("platform") or ""),
            "inputs": _tensors(raw.get("inputs")),
            "outputs": _tensors(raw.get("outputs")),
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RemoteError(
            "expected a model's metadata (name, versions, platform, inputs and outputs, each with name, datatype and "
            f"shape), got another: {type(error).__name__}: {error}"
        ) from None
    if address.version:
        if versions and address.version not in versions:
            raise RemoteError(f"expected version {address.version} of {address.model}, got {', '.join(versions)}")
        described["versions"] = [address.version]
    return described


def _tensors(raw: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": str(tensor["name"]),
            "datatype": str(tensor["datatype"]),
            "shape": [int(side) for side in tensor.get("shape") or ()],  # gRPC's JSON has text
        }
        for tensor in raw or ()
    ]
