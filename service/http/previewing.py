"""POST /v1/preview: pictures of what the network sees. Like samples they take a place, turns and some of the budget."""

from __future__ import annotations

from starlette.requests import Request

from ..answering.driver import CallLimits
from ..answering.images import Picture
from ..answering.preview_schemas import Preview, PreviewFields
from ..answering.previews import passes, preview
from ..backends.base import Shows
from ..errors import BackendUnavailable, RequestError
from .admission import Place
from .asking import arrived, parse, phase, unless_gone
from .bodies import Body, parse_as
from .certifying import Image, decode, seen
from .context import Gateway, gateway_of
from .keys import Client

__all__ = ("previewed",)


async def previewed(request: Request) -> Preview:
    """Raises CertifyError, or ClientDisconnect."""
    gateway = gateway_of(request)
    backend, info = gateway.backend, gateway.info
    if not isinstance(backend, Shows):
        detail = (
            "preview: expected a backend that runs the network in this process (CERTIFY_BACKEND=embedded), got "
            f"{info.kind}, which returns votes alone"
        )
        raise RequestError("preview_unavailable", detail)
    client, content = await arrived(request, gateway)
    with gateway.admission.place(client) as place:
        return await unless_gone(request, gateway, _work(content, request, gateway, client, place, backend))


async def _work(
    content: list[bytes], request: Request, gateway: Gateway, client: Client, place: Place, backend: Shows
) -> Preview:
    info, headers, phases = gateway.info, request.headers, request.state.phases
    kind, encoding = headers.get("content-type"), headers.get("content-encoding")

    def read(body: bytes) -> Body[PreviewFields]:
        return parse_as(PreviewFields, body, content_type=kind, content_encoding=encoding)

    def check(body: Body[PreviewFields]) -> tuple[PreviewFields, int, list[Image]]:
        samples = passes(body.fields, info)
        return body.fields, samples, [seen(body.image, info)]

    with phase(phases, "parsing"):
        fields, samples, image = await parse(content, gateway, read, check, quick=lambda body: True)
    with gateway.admission.size(place, samples):
        async with gateway.budgets.reserve(client, samples) as reservation:
            try:
                with phase(phases, "decoding"):
                    picture = await decode(image, gateway, client, info, resize=fields.resize)
                with phase(phases, "sampling"):
                    return await _shown(picture, fields, request, gateway, place, backend)
            finally:
                reservation.used = place.drawn


async def _shown(
    picture: Picture, fields: PreviewFields, request: Request, gateway: Gateway, place: Place, backend: Shows
) -> Preview:
    try:
        return await preview(
            picture,
            fields,
            backend,
            gateway.seed_key,
            limits=CallLimits.of(gateway.settings),
            turn=place.turn,
            request_id=request.state.request_id,
        )
    except BackendUnavailable:
        gateway.readiness.failed()
        raise
