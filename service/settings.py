"""One frozen object with every option. Each field is `CERTIFY_<NAME>` in the environment and a flag of `certify serve`.

A flag wins over the environment, the environment over the default. A bad value raises SettingsError naming the key.
The host and port are called http_host and http_port because Kubernetes sets CERTIFY_PORT (to a URL) in every pod
beside a Service named `certify`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..models.remote.limits import Limits
from .errors import SettingsError

__all__ = ("ENV_PREFIX", "SEED_KEY_MIN_BYTES", "Settings", "load_settings")

ENV_PREFIX = "CERTIFY_"
# What HMAC-SHA256 puts out: a shorter key is weaker than the hash (RFC 2104, section 3).
SEED_KEY_MIN_BYTES = 32

# What Kubernetes sets in every pod for Services named `certify` and `certify-...`, and before them Docker for links:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_KUBERNETES = re.compile(
    r"CERTIFY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)|CERTIFY_PORT"
)
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://")

# RFC 6454, section 6.2. Browsers write it in small letters, so anything else would never match.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9]\d{0,4}))?")
_LEFT_OUT = {"http": "80", "https": "443"}  # ports

_SHOWN = 200  # characters of a wrong value

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Sizes are in bytes, times in seconds, samples in noise samples. Build it with load_settings()."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    # 127.0.0.1: a laptop's service is not offered to the network unless somebody says so; a container sets another.
    http_host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; `::` is every address, IPv4's too"
    )
    http_port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one and logs it")
    # empty: a service that stands at the top of its host.
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="what a proxy puts before every path, such as /certify-api, whether or not it takes it away again",
    )
    # empty: a browser keeps every answer from pages of other origins.
    allowed_origins: str = Field(
        "",
        description="origins whose pages may ask from a browser, with commas between, such as https://app.example; * "
        "for any; none unless set",
    )
    # on: whoever serves on a laptop sees it work; it asks for a key where the service does.
    page: bool = Field(True, description="a page at / to certify a picture with, for people with a browser")
    # embedded: real certificates with nothing else installed or started.
    backend: Literal["embedded", "triton", "fake"] = Field(
        "embedded", description="what runs the network: embedded, triton, or fake (random votes, for tests only)"
    )
    bundle: str = Field("digits", min_length=1, description="name of a shipped bundle, or a path to one")
    # unset: every core that this process may use; fewer leave room for others on the same machine.
    workers: Count | None = Field(None, description="embedded backend only: sampling threads; unset: one for each core")
    # cpu: a laptop has no other. cuda: to measure a data set without a server; production has Triton for it.
    device: Literal["cpu", "cuda"] = Field("cpu", description="embedded backend only: cpu or cuda")
    # auto: openvino where it is installed and the device is a CPU, several times as fast (docs/performance.md).
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="embedded backend only: what computes the networks: auto, torch or openvino"
    )
    # unset: 64 on a CPU, 512 on CUDA, unless the bundle proposes others; `certify tune-runtime` measures others.
    micro_batch: Count | None = Field(
        None,
        description="embedded backend only: samples computed together, a multiple of the bundle's chunk, the same on "
        "every replica; unset: as the bundle proposes, or the device's default",
    )
    # unset: a server in the same cluster seldom asks for one.
    remote_token_file: Path | None = Field(
        None,
        description="bundles with a remote classifier only: file with the token that it is asked with (Authorization: "
        "Bearer); read again when it changes; unset: none",
    )
    # 30 s: a batch of photographs on a slow line. Two of them pass before a call of the backend counts as stalled.
    remote_seconds: Seconds = Field(
        30.0, description="remote classifier only: longest time that one call to it may take; it is then made again"
    )
    # 8: enough for a server behind a line of some 50 ms to have the next batch when it has answered one.
    remote_connections: int = Field(8, ge=1, le=256, description="remote classifier only: calls to it at once")
    remote_calls_per_second: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="remote classifier only: most calls a second; unset: as they come"
    )
    # unset: a server of one's own costs nothing a call.
    remote_max_calls: Count | None = Field(
        None,
        description="remote classifier only: calls that this process may make, repeated ones too; then requests get an "
        "error; unset: no limit",
    )
    remote_max_images: Count | None = Field(
        None, description="remote classifier only: as remote_max_calls, of the pictures in them; unset: no limit"
    )
    # Triton's own default port, on this machine.
    triton_url: str = Field(
        "127.0.0.1:8001",
        min_length=1,
        description="triton backend only: HOST:PORT of its gRPC, several with commas between, or dns:///NAME:PORT for "
        "every address that NAME has",
    )
    seed_key: SecretStr | None = Field(
        None,
        description=f"secret from which all noise is derived, at least {SEED_KEY_MIN_BYTES} bytes, the same on every "
        "replica (openssl rand -hex 32); unset: a random one, for one replica only. Prefer the environment: flags show "
        "in the process list",
    )
    # unset: see `running`.
    max_running: Count | None = Field(
        None, description="requests that sample at once; unset: 4 in this process, 64 on triton"
    )
    # 64 waiting digits requests of 10,000 samples are some minutes of work on a laptop: more would only time out.
    max_queued: int = Field(64, ge=0, description="accepted requests that wait for their turn; more get a 429")
    # 10 MiB: a 12-megapixel photograph as JPEG, in base64, with room to spare.
    max_body_bytes: Count = Field(10 * 2**20, description="largest request body; a larger one gets a 413")
    # 16 Mi pixels: 64 MiB once decoded as RGB, and as much again to convert it; one so large is decoded at a time.
    max_pixels: Count = Field(
        16 * 2**20, description="most pixels of an image (of a WebP half as many), read from its header before decoding"
    )
    # 5 s: a photograph of 64 megapixels takes about one; a picture that takes longer is meant to.
    decode_seconds: Seconds = Field(5.0, description="longest time that decoding one image may take")
    # unset: anybody may ask, which suits a laptop and a service that something else guards.
    api_keys_file: Path | None = Field(
        None,
        description="file with a line for each client: name, SHA-256 of its key, samples a minute, places at once; "
        "read again when it changes; unset: anybody may ask",
    )
    # unset: answers have evidence where it is asked for, and nobody's name under it.
    signing_key_file: Path | None = Field(
        None,
        description="PEM file of Ed25519 keys (certify keys new): the first signs certificates, all are at /v1/keys; "
        "another than the seed key",
    )
    # memory://: one gateway needs nothing else. Several that share budgets need one place that counts.
    budget_storage: str = Field(
        "memory://",
        min_length=1,
        description="where samples spent are counted: memory://, or redis://HOST:PORT/DB for several gateways (Valkey "
        "too)",
    )
    # 100,000: the largest sample size used in the literature (Cohen et al. 2019); the product's cap.
    max_samples: Count = Field(100_000, description="most noise samples that one request may ask for")
    # 256: a page of thumbnails, or the rows that a script sends together; more is another request.
    max_batch: Count = Field(256, description="most images of one batch")
    # 0: an answer costs seconds, but who asks the same again is not known before it happens. One takes some KiB.
    cache_answers: int = Field(
        0, ge=0, description="answers kept in memory and given again to the client who asks the same; 0: none"
    )
    # 48 MiB: 4 of the largest bodies, or thousands of honest ones. Those that are silent take nothing of it.
    max_arriving_bytes: Count = Field(
        48 * 2**20, description="bytes of all bodies that are arriving; beyond, the oldest of them gets a 429"
    )
    # unset: 1,024, fifteen times the places, or what the process's file descriptors allow, whichever is less.
    max_connections: Count | None = Field(
        None,
        description="open connections; beyond, the one that is silent longest is closed; unset: 1024, or less where "
        "file descriptors are few",
    )
    # 10 s: a head is one packet or two; a phone that loses one sends it again within some seconds.
    head_seconds: Seconds = Field(10.0, description="longest time a request's head may take to arrive")
    # 30 s: time for 10 MiB at 3 Mbit/s.
    body_seconds: Seconds = Field(30.0, description="longest time a request's body may take to arrive")
    # 2,048: 40 ms on a fast GPU and under a second on a laptop, so cancelling and stall detection stay prompt, and
    # long enough that a call's own cost (under 1 ms) does not count.
    call_samples: Count = Field(2048, description="most samples asked of the backend in one call, rounded to chunks")
    # 60 s: fifty times what such a call takes on two laptop cores beside three other requests.
    call_seconds: Seconds = Field(
        60.0,
        description="time after which a backend call counts as stalled, or four times what such calls took lately if "
        "that is longer; in commands that work without a service only if it is set",
    )
    # 360 s: what the chart promises, triton.startupSeconds (300, to load a large model) and a minute.
    start_seconds: float = Field(
        360.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="triton backend only: longest time to wait for a server after the start, meanwhile /readyz says "
        "503; then the process ends with an error; 0: no limit",
    )
    # 30 s: three readiness probes of Kubernetes' default 10 s period.
    ready_seconds: Seconds = Field(30.0, description="/readyz: how old the backend's last answered sample may be")
    # 25 s: inside Kubernetes' default terminationGracePeriodSeconds of 30.
    grace_seconds: Seconds = Field(
        25.0, description="from SIGTERM to the end; what is accepted is finished, or cut off 1.5 s before"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity that is logged")
    # off: a span for each look costs little, but somebody must collect them.
    tracing: bool = Field(False, description="send OpenTelemetry spans (OTLP; configured by OTEL_... variables)")
    # 0: as fast as it can. A delay makes overload, deadlines and shutdown visible without a network.
    fake_delay_seconds: float = Field(
        0.0, ge=0, le=3600, allow_inf_nan=False, description="fake backend only: how long each call takes"
    )

    @property
    def running(self) -> int:
        """max_running, or the backend's own default."""
        # In this process, 4: one request's HTTP work overlaps another's sampling; more only share its cores further.
        # On triton, 64: a server's batches are filled by requests that wait beside each other, and its replicas share
        # the work; 64 is what one execute() may be handed (models.export.MAX_BATCH).
        return self.max_running or (64 if self.backend == "triton" else 4)

    @property
    def remote(self) -> Limits:
        """How a bundle's remote classifier may be asked; each has a count of its own of what was spent."""
        return Limits(
            token_file=self.remote_token_file,
            seconds=self.remote_seconds,
            connections=self.remote_connections,
            calls_per_second=self.remote_calls_per_second,
            max_calls=self.remote_max_calls,
            max_images=self.remote_max_images,
        )

    @property
    def origins(self) -> tuple[str, ...]:
        """allowed_origins, one by one."""
        return tuple(origin for each in self.allowed_origins.split(",") if (origin := each.strip()))

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, text: str) -> str:
        for each in text.split(","):
            if (origin := each.strip()) and origin != "*" and not _is_origin(origin):
                raise ValueError(
                    "expected https://HOST[:PORT], as browsers send it: small letters, no path, no slash, and no port "
                    "that the scheme has anyway"
                )
        return text

    @field_validator("seed_key")
    @classmethod
    def _strong_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        text = key.get_secret_value().strip()  # a file's last line break is not of the key
        if (size := len(text.encode())) < SEED_KEY_MIN_BYTES:
            raise ValueError(f"expected at least {SEED_KEY_MIN_BYTES} bytes, got {size}")
        return SecretStr(text)


def _is_origin(text: str) -> bool:
    found = _ORIGIN.fullmatch(text)
    return found is not None and found[2] != _LEFT_OUT.get(found[1], "") and int(found[2] or 1) <= 65_535


def load_settings(**flags: object) -> Settings:
    """Settings from flags (None: not given), then the environment, then defaults. Raises SettingsError."""
    _check_environment(os.environ)
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as exc:
        raise SettingsError("; ".join(_explain(error) for error in exc.errors())) from None


def _check_environment(environment: Mapping[str, str]) -> None:
    """A misspelt name would leave its setting at the default in silence. Raises SettingsError."""
    known = [ENV_PREFIX + name.upper() for name in Settings.model_fields]
    for name, value in environment.items():
        upper = name.upper()  # as pydantic reads them
        if not upper.startswith(ENV_PREFIX) or upper in known or _KUBERNETES.fullmatch(upper):
            continue
        if _KUBERNETES_URL.match(value) and upper.endswith("_PORT"):
            continue
        near = difflib.get_close_matches(upper, known, n=1)
        raise SettingsError(f"{name}: there is no such setting" + (f"; is {near[0]} meant?" if near else ""))


def _explain(error: object) -> str:
    # `from None` above and no input for the key here: a secret must not reach a log by way of an error message.
    assert isinstance(error, dict)
    name = str(error["loc"][0]) if error["loc"] else "?"
    got = "" if name == "seed_key" else f" (got {str(error['input'])[:_SHOWN]!r})"
    return f"{ENV_PREFIX}{name.upper()}: {error['msg']}{got}"
