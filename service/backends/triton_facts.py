"""What a server says of itself: the facts that `models.export` wrote into its model's configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..errors import BackendUnavailable
from .base import BackendInfo, Runtime
from .replicas import Abandoned, Replica

__all__ = ("MODEL", "Facts", "ask_facts")

MODEL = "mdds"
# A server answers this beside its model's work, within milliseconds; one that is silent for so long is lost or paused.
FACTS_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """`identity` names whatever can move a vote or a claim: servers of one identity are replicas of each other."""

    info: BackendInfo
    identity: str
    instances: int  # processes that run the model

    def __str__(self) -> str:
        return f"{self.info.bundle_digest} on {self.info.runtime}, micro-batch {self.info.grain}"


async def ask_facts(replica: Replica) -> Facts:
    """The server's facts. Raises BackendUnavailable when it has none, or none that this version reads, or is silent."""
    from tritonclient.utils import InferenceServerException

    try:
        asked = replica.client.get_model_config(MODEL, as_json=True, client_timeout=FACTS_SECONDS)
        config = await replica.ask(asked)
        facts = json.loads(config["config"]["parameters"]["certify"]["string_value"])
    except (InferenceServerException, Abandoned) as error:
        why = error.message() if isinstance(error, InferenceServerException) else error
        raise BackendUnavailable(f"triton at {replica.url}: {why}") from error
    except (KeyError, ValueError) as error:
        raise BackendUnavailable(
            f"triton at {replica.url}: its model {MODEL} is none that `certify bundles export` wrote"
        ) from error
    return _read(facts)


def _read(facts: dict[str, Any]) -> Facts:
    try:
        channels, height, width = facts["input_shape"]
        scales = facts.get("scales") or {"sigmas": facts["sigmas"], "noise": (), "norm": "l2"}
        info = BackendInfo(
            kind="triton",
            bundle_name=facts["bundle"]["name"],
            bundle_digest=facts["bundle"]["digest"],
            bundle_version=facts["bundle"].get("version", ""),  # none in earlier exports
            class_names=tuple(facts["classes"]),
            input_shape=(channels, height, width),
            sigmas=tuple(scales["sigmas"]),
            thresholds=tuple(facts["thresholds"]),
            final=facts["final"],
            chunk=facts["chunk"],
            grain=facts["grain"],
            runtime=Runtime(**facts["runtime"]),
            noise=tuple(scales["noise"]),
            norm=scales["norm"],
        )
        return Facts(info=info, identity=facts["identity"], instances=int(facts["instances"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BackendUnavailable(
            f"triton's model {MODEL} was exported by another version of certify: {error}"
        ) from error
