"""`certify verify` and `certify reveal`: does a certificate hold, and the noise that it speaks of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import verify as auditor
from ...models.files import check_file, read_bytes, whole_file
from ...verify import Check, Refused, Unreadable
from ..errors import CertifyError, DataError
from .options import USAGE, read_secret
from .progress import Steps

if TYPE_CHECKING:
    from ..answering.signing import PublicKey

__all__ = ("reveal", "verify")


def verify(
    files: Annotated[list[Path], typer.Argument(help="Certificates, signed or not.", metavar="FILE...")],
    *,
    key: Annotated[Path | None, typer.Option(help="Who may have signed: a JWK set, as of GET /v1/keys.")] = None,
    image: Annotated[Path | None, typer.Option(help="The picture that it speaks of.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Draw the votes again; needs --image and --bundle.")] = False,
    bundle: Annotated[str | None, typer.Option(help="Name or path of the bundle that it names.")] = None,
    seed_key_file: Annotated[Path | None, typer.Option(help="With --replay: the service's seed key.")] = None,
    seeds: Annotated[Path | None, typer.Option(help="With --replay: what `certify reveal` wrote.")] = None,
    spot: Annotated[int | None, typer.Option(help="With --replay: only so many random chunks.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each file.")] = False,
) -> None:
    """Check certificates: who signed them, what their counts prove, and, with --replay, the counts.

    Exits with 0 when all hold, 1 when one does not, 2 when one, or what it is checked with, cannot be read.
    """
    if replay and (image is None or bundle is None or (seed_key_file is None) == (seeds is None)):
        raise typer.BadParameter("--replay needs --image, --bundle, and either --seed-key-file or --seeds")
    if not replay and (bundle or seed_key_file or seeds or spot):
        raise typer.BadParameter("--bundle, --seed-key-file, --seeds and --spot go with --replay")
    with _no_verdict():
        keys = None if key is None else _keys(key)
        picture = None if image is None else (image, _bytes(image))
        replayer = _replayer(replay, bundle, seed_key_file, seeds, spot)
    worst = 0
    for path in files:
        found: list[Check] = []
        try:
            payload, written, signatures = auditor.opened(_certificate(path))
            found.append(_signature(payload, written, signatures, key, keys))
            if found[-1].holds:
                found += auditor.checks(payload, written)
            if all(check.holds for check in found):
                found += _beyond(payload, picture=picture, replay=replayer)
            code = 0 if all(check.holds for check in found) else 1
        except (Unreadable, _NoFile) as error:
            found.append(Check("readable", False, str(error)))
            code = USAGE
        _show(path, found, as_json=as_json)
        worst = max(worst, code)
    raise typer.Exit(worst)


@contextlib.contextmanager
def _no_verdict() -> Iterator[None]:
    """What a check needs cannot be read: 1 would say that a certificate does not hold."""
    try:
        yield
    except CertifyError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE) from None


def _keys(path: Path) -> Mapping[str, PublicKey]:
    from ..answering.signing import read_key_set

    return read_key_set(path)


def _signature(
    payload: Mapping[str, Any],
    written: bytes,
    signatures: Sequence[tuple[str, bytes]],
    key: Path | None,
    keys: Mapping[str, PublicKey] | None,
) -> Check:
    """key: the file that `keys` were read from."""
    if keys is None:
        said = (
            f"signed by {', '.join(name for name, _ in signatures)}, which nobody checked: --key" if signatures else ""
        )
        return Check("signature", True, said or "none: anybody can have written it")
    if not signatures:
        return Check("signature", False, "none, and --key asks for one")
    try:
        found = auditor.signers(written, signatures, {name: known.raw for name, known in keys.items()})
        if not found:
            return Check(
                "signature", False, f"by {', '.join(name for name, _ in signatures)}, none of the keys in {key}"
            )
        issued = auditor.moment(payload.get("issued_at"))
        good = [name for name in found if keys[name].good_at(issued)]
        if not good:
            return Check("signature", False, f"{', '.join(found)} was not good at {payload['issued_at']}")
        return Check("signature", True, f"by {', '.join(good)}")
    except Refused as error:
        return Check("signature", False, str(error))


Replayer = Callable[[Mapping[str, Any], Any], str]


def _beyond(payload: Mapping[str, Any], *, picture: tuple[Path, bytes] | None, replay: Replayer | None) -> list[Check]:
    """The plan, the image and the votes: what needs more of us than the auditor's file."""
    from ..answering.replay import Differs, planned_again

    found = []
    try:
        found.append(Check("plan", True, planned_again(payload)))
        if picture is not None:
            tensor = _tensor(payload, *picture)
            found.append(Check("image", True, f"{picture[0]} decodes to this very tensor"))
            if replay is not None:
                found.append(Check("replay", True, replay(payload, tensor)))
    except (Differs, CertifyError, ValueError, MemoryError) as error:
        found.append(Check(("plan", "image", "replay")[len(found)], False, str(error) or "there is no memory for it"))
    return found


def _tensor(payload: Mapping[str, Any], image: Path, data: bytes) -> Any:
    from ..answering.images import decode_image
    from ..answering.replay import Differs
    from ..settings import Settings

    given = payload["input"]
    most = Settings.model_fields["max_pixels"].default
    if given["shape"][0] not in (1, 3) or math.prod(given["shape"][1:]) > most:
        raise Differs(f"input.shape: expected 1 or 3 channels of at most {most} pixels, got {given['shape']}")
    picture = decode_image(data, tuple(given["shape"]), resize=given["resized"], max_pixels=most)
    if picture.sha256.hex() != given["sha256"]:
        raise Differs(f"{image} is another picture: its tensor has SHA-256 {picture.sha256.hex()}")
    if (picture.resized, picture.turned) != (given["resized"], given["turned"]):
        raise Differs(f"{image}: expected resized, turned to be {picture.resized}, {picture.turned}")
    return picture.tensor


def _replayer(
    replay: bool, bundle: str | None, seed_key_file: Path | None, seeds: Path | None, spot: int | None
) -> Replayer | None:
    if not replay:
        return None
    secret = None if seed_key_file is None else read_secret(seed_key_file)
    known = None if seeds is None else _read_seeds(seeds)

    def work(payload: Mapping[str, Any], tensor: Any) -> str:
        from ..answering.replay import Differs, voted_again
        from ..backends import open_backend
        from ..settings import load_settings

        if known is not None:
            if known["scope_sha256"] != payload["noise"]["scope_sha256"]:
                raise Differs("the seeds are those of another question")
            numbers = known["seeds"]
            if lacking := [name for name in _streams(payload) if name not in numbers]:
                raise Differs(f"the seeds of {', '.join(lacking)} are missing")
        else:
            assert secret is not None
            numbers = _seeds(payload, secret)
        names = {stream: name for name, stream in _streams(payload).items()}
        backend = open_backend(load_settings(backend="embedded", bundle=bundle))

        async def again() -> str:
            await backend.open()
            try:
                with Steps() as steps:
                    return await voted_again(
                        payload, tensor, backend, lambda purpose, sigma: numbers[names[purpose, sigma]],
                        spot=spot, progress=steps.count,
                    )  # fmt: skip
            finally:
                await backend.close()

        return asyncio.run(again())

    return work


def reveal(
    file: Annotated[Path, typer.Argument(help="A certificate.")],
    seed_key_file: Annotated[Path, typer.Option(help="The service's seed key.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Where to write them [standard output].")] = None,
) -> None:
    """Write the seeds of one certificate's noise, so that somebody without the key can draw its votes again.

    They are HMACs: of other questions' noise they say nothing.
    """
    if out is not None:
        check_file(out)
    try:
        payload, written, _ = auditor.opened(_certificate(file))
        wrong = [check.found for check in auditor.checks(payload, written) if not check.holds]
    except Unreadable as error:
        wrong = [str(error)]
    if wrong:
        raise DataError(f"{file}: expected a certificate that holds: {_plain(wrong[0])}")
    seeds = _seeds(payload, read_secret(seed_key_file))
    body = {
        "scope_sha256": payload["noise"]["scope_sha256"],
        "seeds": {name: str(seed) for name, seed in seeds.items()},
    }
    text = json.dumps(body, indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    with whole_file(out) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _seeds(payload: Mapping[str, Any], key: bytes) -> dict[str, int]:
    """ "pilot 0.25" -> seed, of each stream. Raises DataError for another key."""
    from ..answering.replay import scope_of
    from ..answering.seeds import fingerprint

    if fingerprint(key) != payload["noise"]["key"]:
        raise DataError(f"seed-key-file: expected the key {payload['noise']['key']}, got {fingerprint(key)}")
    scope = scope_of(payload)
    if scope.sha256 != payload["noise"]["scope_sha256"]:
        raise DataError("noise.scope_sha256 is not that of the certificate's own question")
    return {name: scope.seed(key, purpose, sigma) for name, (purpose, sigma) in _streams(payload).items()}


def _streams(payload: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Each stream's name, with sigma as the certificate writes it: to the last digit."""
    return {
        f"{purpose} {level['sigma']}": (purpose, float(level["sigma"]))
        for purpose in ("pilot", "estimation")
        for level in payload["function"]["levels"]
    }


def _read_seeds(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(_bytes(path))
        seeds = {str(name): int(value) for name, value in known["seeds"].items()}
        return {"scope_sha256": str(known["scope_sha256"]), "seeds": seeds}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: expected what `certify reveal` writes, got: {error}") from None


class _NoFile(DataError):
    """A certificate's file cannot be read; the next one may be."""


def _certificate(path: Path) -> bytes:
    """No more of it than is ever read. Raises _NoFile."""
    try:
        with path.open("rb") as file:
            return file.read(auditor.LARGEST + 1)
    except OSError as error:
        raise _NoFile(f"{path}: expected a file that can be read, got: {error.strerror}") from None


def _bytes(path: Path) -> bytes:
    try:
        return read_bytes(path, auditor.LARGEST)
    except OSError as error:
        raise DataError(f"{path}: expected a file that can be read, got: {error.strerror}") from None


def _show(path: Path, found: Sequence[Check], *, as_json: bool) -> None:
    if as_json:
        holds = all(check.holds for check in found)
        typer.echo(json.dumps({"path": str(path), "holds": holds, "checks": [asdict(check) for check in found]}))
        return
    typer.echo(str(path))
    for check in found:
        typer.echo(f"  {'holds' if check.holds else 'FAILS'}  {check.name}: {_plain(check.found)}")


def _plain(text: str) -> str:
    """On one line, and nothing that a terminal would act on: a certificate's words are not ours."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
