"""A bundle's field `remote`: which classifier is asked over the network, what it takes and what it gives.

    {"url": "https://vendor.example/v2/models/digits/versions/3",
     "input": {"name": "images", "dtype": "fp32", "layout": "NCHW", "channels": 1, "size": [8, 8],
               "kernel": "bilinear", "scale": 1.0, "mean": [0.5], "std": [0.5]},
     "output": {"name": "logits", "kind": "scores"},
     "max_batch": 64,
     "reported": {...},             what the endpoint said of itself when the bundle was packed; {} if nothing
     "known": [3, 1, ...]}          the classes that it then gave the pictures of models.remote.probe

All of it is in the bundle's digest: another endpoint, another preprocessing or another answer is another bundle. A
value that is sent is scale * (pixel - mean) / std of a pixel in [0, 1], after resizing with antialiasing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from ..errors import BundleError

__all__ = ("KERNELS", "KNOWN", "Address", "Input", "Output", "Remote", "parse_url")

LAYOUTS = ("NCHW", "NHWC", "flat")  # flat: (N, C * H * W), channel after channel
KERNELS = ("bilinear", "bicubic")
KINDS = ("scores", "labels")
PROTOCOLS = {  # and the dtypes that it carries
    "oip-http": ("fp32", "uint8"),
    "oip-grpc": ("fp32", "uint8"),
    "json": ("fp32", "png"),
}
WHOLE = ("uint8", "png")  # 0 to 255, rounded
KNOWN = 16  # pictures of models.remote.probe
MOST = 4096  # pictures in a call


@dataclass(frozen=True, kw_only=True)
class Address:
    """What a URL says."""

    protocol: str  # of PROTOCOLS
    base: str  # http://host:port/v2/models/NAME[/versions/V]; HOST:PORT of gRPC; the whole URL of plain JSON
    model: str = ""  # "" in plain JSON
    version: str = ""  # "" if the endpoint is to choose
    secure: bool = False  # TLS, whose certificates are always verified


def parse_url(url: object) -> Address:
    """Raises BundleError, saying which forms there are."""
    parts = urlsplit(url if isinstance(url, str) and url.isascii() and url.isprintable() else "")
    try:
        fits = bool(parts.hostname) and " " not in parts.geturl() and parts.port != 0
    except ValueError:  # no port number
        fits = False
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BundleError(
            "url: expected an address without user, password, query or fragment, since a bundle holds no credential "
            "(CERTIFY_REMOTE_TOKEN_FILE), got one with"
        )
    path = parts.path.strip("/").split("/")
    secure = parts.scheme in ("https", "grpcs")
    if fits and parts.scheme in ("grpc", "grpcs") and parts.port and path[0] and len(path) <= 2:
        return Address(protocol="oip-grpc", base=parts.netloc, model=path[0], version="".join(path[1:]), secure=secure)
    if fits and parts.scheme in ("http", "https"):
        base = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        match _after_v2(path):
            case ["models", model] | ["models", model, "versions", _] as names if model:
                version = names[3] if len(names) == 4 else ""
                return Address(protocol="oip-http", base=base, model=model, version=version, secure=secure)
            case None:
                return Address(protocol="json", base=base, secure=secure)
    raise BundleError(
        "url: expected http(s)://HOST[:PORT]/v2/models/NAME[/versions/V] or grpc(s)://HOST:PORT/NAME[/V] (open "
        f"inference protocol), or another http(s) address of plain JSON (docs/bundles.md), got {url!r}"
    )


def _after_v2(path: list[str]) -> list[str] | None:
    """What follows the last v2/models, with it; None where there is none."""
    for at in range(len(path) - 2, -1, -1):
        if path[at : at + 2] == ["v2", "models"]:
            return path[at + 1 :]
    return None


@dataclass(frozen=True, kw_only=True)
class Input:
    """A picture as it is sent. Checked when it is made."""

    name: str = ""  # of the tensor; "" in plain JSON
    dtype: str  # fp32, uint8, or png: in base64
    layout: str
    channels: int
    size: tuple[int, int]  # (H, W)
    kernel: str = "bilinear"  # where that is another size than the bundle's
    scale: float = 1.0
    mean: tuple[float, ...]  # in units of [0, 1] pixels
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str), "input.name", "a string", self.name)
        _require(self.layout in LAYOUTS, "input.layout", f"one of {LAYOUTS}", self.layout)
        _require(type(self.channels) is int and self.channels in (1, 3), "input.channels", "1 or 3", self.channels)
        sides = len(self.size) == 2 and all(type(side) is int and 0 < side <= 4096 for side in self.size)
        _require(sides, "input.size", "height and width, 1 to 4096", self.size)
        _require(self.kernel in KERNELS, "input.kernel", f"one of {KERNELS}", self.kernel)
        _require(_real(self.scale) and self.scale != 0, "input.scale", "a number other than 0", self.scale)
        for name in ("mean", "std"):
            values = getattr(self, name)
            known = len(values) == self.channels and all(map(_real, values))
            _require(known, f"input.{name}", f"{self.channels} numbers", values)
        _require(min(self.std) > 0, "input.std", "values > 0", self.std)
        if self.dtype in WHOLE:
            plain = self.scale == 255 and set(self.mean) == {0.0} and set(self.std) == {1.0}
            given = {"scale": self.scale, "mean": self.mean, "std": self.std}
            _require(plain, "input", f"scale 255, mean 0 and std 1 with {self.dtype}", given)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a picture before it is laid out."""
        return (self.channels, *self.size)


@dataclass(frozen=True, kw_only=True)
class Output:
    """An answer as it comes. Checked when it is made."""

    name: str = ""  # of the tensor; "" in plain JSON
    kind: str  # scores (logits or probabilities: the largest wins, ties to the lowest class) or labels

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str), "output.name", "a string", self.name)
        _require(self.kind in KINDS, "output.kind", f"one of {KINDS}", self.kind)


@dataclass(frozen=True, kw_only=True)
class Remote:
    """The field, checked when it is made. Raises BundleError naming what is wrong in it."""

    url: str
    input: Input
    output: Output
    max_batch: int = 64  # pictures in a call: as many as are computed together here
    reported: Mapping[str, Any] = field(default_factory=dict)
    known: tuple[int, ...] = ()  # () only while it is being packed

    def __post_init__(self) -> None:
        address = self.address
        dtypes = PROTOCOLS[address.protocol]
        _require(self.input.dtype in dtypes, "input.dtype", f"one of {dtypes} by {address.protocol}", self.input.dtype)
        for name, part in (("input", self.input), ("output", self.output)):
            named = bool(part.name) == (address.protocol != "json")
            wanted = "a tensor's name" if address.protocol != "json" else "none in plain JSON"
            _require(named, f"{name}.name", wanted, part.name)
        whole = type(self.max_batch) is int and 0 < self.max_batch <= MOST
        _require(whole, "max_batch", f"1 to {MOST}", self.max_batch)
        _require(isinstance(self.reported, Mapping), "reported", "an object", self.reported)
        labels = len(self.known) in (0, KNOWN) and all(type(label) is int and label >= 0 for label in self.known)
        _require(labels, "known", f"{KNOWN} classes", self.known)

    @property
    def address(self) -> Address:
        return parse_url(self.url)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Remote:
        """From the manifest's field, lists as JSON has them."""
        facts = _fields(cls, raw, "")
        facts["input"] = Input(**_fields(Input, facts["input"], "input."))
        facts["output"] = Output(**_fields(Output, facts["output"], "output."))
        return cls(**facts)

    def as_json(self) -> dict[str, Any]:
        """As the manifest has it; `of` reads it."""
        return {name: _listed(value) for name, value in asdict(self).items()}


def _fields(kind: type, raw: object, prefix: str) -> dict[str, Any]:
    """Of a dataclass, lists as tuples and whole numbers as floats where it wants them. Raises BundleError."""
    _require(isinstance(raw, Mapping), prefix.rstrip(".") or "remote", "an object", raw)
    assert isinstance(raw, Mapping)
    known = {each.name: each for each in fields(kind)}
    for name in raw:
        _require(name in known, f"{prefix}{name}", f"one of {', '.join(known)}", name)
    for name, each in known.items():
        optional = each.default is not MISSING or each.default_factory is not MISSING
        _require(optional or name in raw, f"{prefix}{name}", "a value", None)
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    for name in ("mean", "std"):
        if isinstance(values.get(name), tuple):
            values[name] = tuple(float(v) if type(v) is int else v for v in values[name])
    if type(values.get("scale")) is int:
        values["scale"] = float(values["scale"])
    return values


def _listed(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _listed(each) for name, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value


def _real(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _require(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        raise BundleError(f"{where}: expected {expected}, got {got!r}")
