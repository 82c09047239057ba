"""create_app(settings, backend=None): the ASGI application. What it is made of lives in the modules that it names."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from .. import __version__
from ..answering.kept import KeptAnswers
from ..answering.seeds import fingerprint, random_key
from ..answering.signing import read_signer
from ..backends import open_backend
from ..backends.base import Backend, BackendInfo
from ..errors import BundleError, CertifyError, SettingsError
from ..settings import ENV_PREFIX, Settings
from . import problems
from .admission import Admission
from .arrivals import Arrivals
from .asking import known
from .bodies import check_query
from .budgets import Budgets
from .context import Gateway, gateway_of
from .cors import Cors
from .decoding import Decoders
from .keys import ApiKeys
from .log import RequestLog
from .memory import Trimmer, malloc_trim
from .metrics import Metrics
from .openapi import use_openapi
from .readiness import Readiness
from .routes import certify, docs, health, inference, info, keys, page, previews
from .scopes import Scopes
from .serving import Serving
from .spans import Spans

__all__ = ("create_app",)

logger = logging.getLogger(__name__)

# Two bodies at a time: parsing is processor work, and a body may be max_body_bytes.
_PARSERS = 2
Lifespan = Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]

_DESCRIPTION = (
    "How far can this image be changed before the answer changes? Certified L2 radii by multi-scale "
    "diffusion-denoised smoothing. Pixels are in [0, 1]; sigma and radii are L2 in those units."
)


def create_app(settings: Settings, backend: Backend | None = None) -> FastAPI:
    """The application for these settings. `backend` replaces the one that they name; it is opened and closed here.

    Raises SettingsError when the backend that they name cannot be had.
    """
    served = open_backend(settings, patient=False) if backend is None else backend

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ThreadPoolExecutor(_PARSERS, thread_name_prefix="parse") as parsers:
            gateway = _gateway(settings, served, parsers)
            app.state.gateway = gateway
            trim = malloc_trim()
            trimming = trim and asyncio.create_task(Trimmer(trim, lambda: gateway.arrivals.came).run(), name="trimming")
            try:
                # Servers come and go; what this process loads itself is there at the start, or never.
                await gateway.serving.start(background=settings.backend == "triton")
                yield
            except BundleError as exc:
                raise SettingsError(f"{ENV_PREFIX}BUNDLE: {exc}") from exc
            finally:
                if trimming:
                    trimming.cancel()
                await gateway.readiness.close()
                await gateway.serving.close()
                await gateway.budgets.close()
                await gateway.decoders.close()

    app = FastAPI(
        title="certify",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_noted(lifespan),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # scopes.py
    )
    # The last one is the outermost.
    app.add_middleware(problems.Faults)
    app.add_middleware(Scopes, root_path=settings.root_path)
    if settings.origins:
        app.add_middleware(Cors, origins=settings.origins)
    app.add_middleware(RequestLog, root_path=settings.root_path)
    app.add_middleware(Spans, root_path=settings.root_path)
    problems.install(app)
    for asking in (certify.router, previews.router, inference.model_router):
        app.include_router(asking, dependencies=[Depends(known), Depends(_no_query), Depends(_something_served)])
    for routes in (info, keys):
        app.include_router(routes.router, dependencies=[Depends(_no_query)])
    for routes in (health, inference, docs, *([page] if settings.page else [])):
        app.include_router(routes.router)
    use_openapi(app, settings)
    return app


def _noted(lifespan: Lifespan) -> Lifespan:
    """The same; why it could not begin is kept in app.state.failure, since uvicorn only logs it."""

    @contextlib.asynccontextmanager
    async def noted(app: FastAPI) -> AsyncIterator[None]:
        app.state.failure = None
        try:
            async with lifespan(app):
                yield
        except CertifyError as exc:
            app.state.failure = exc
            raise

    return noted


async def _no_query(request: Request) -> None:
    check_query(request.scope["query_string"])


async def _something_served(request: Request) -> None:
    """Refuse, with the reason, before a place is taken: answers under way end, and another bundle can be adopted."""
    gateway_of(request).serving.check()


def _gateway(settings: Settings, backend: Backend, parsers: ThreadPoolExecutor) -> Gateway:
    if settings.seed_key is None:
        logger.warning("CERTIFY_SEED_KEY is not set: a random key serves this one replica until it ends")
    elif len(set(settings.seed_key.get_secret_value())) == 1:
        logger.warning("CERTIFY_SEED_KEY is one character again and again: anybody can guess it, and predict all noise")
    metrics = Metrics(CollectorRegistry(), version=__version__, codes=tuple(problems.CODES))
    clients = ApiKeys(settings.api_keys_file)
    if not clients.required:
        logger.info("there are no API keys: anybody who reaches this service may ask it")
    admission = Admission(running=settings.running, queued=settings.max_queued, metrics=metrics)

    seed_key = random_key() if settings.seed_key is None else settings.seed_key.get_secret_value().encode()

    def opened(info: BackendInfo) -> None:
        if info.kind == "fake":
            logger.warning("the fake backend serves random votes: its certificates speak of no classifier")
        metrics.serve(info, seed_key=fingerprint(seed_key))
        readiness.opened()

    serving = Serving(backend, wait_seconds=settings.start_seconds, idle=lambda: admission.idle, on_open=opened)
    readiness = Readiness(backend, fresh_seconds=settings.ready_seconds, served=serving.check)
    # Read at each scrape; asking the backend is /readyz's business, and a scrape's never.
    metrics.ready.set_function(lambda: serving.is_open and readiness.answering)
    return Gateway(
        settings=settings,
        backend=backend,
        serving=serving,
        metrics=metrics,
        arrivals=Arrivals(
            max_body_bytes=settings.max_body_bytes,
            max_bytes=settings.max_arriving_bytes,
            seconds=settings.body_seconds,
        ),
        admission=admission,
        readiness=readiness,
        seed_key=seed_key,
        signer=None if settings.signing_key_file is None else read_signer(settings.signing_key_file),
        keys=clients,
        budgets=Budgets(settings.budget_storage),
        answers=KeptAnswers(settings.cache_answers),
        parsers=parsers,
        decoders=Decoders(max_pixels=settings.max_pixels, seconds=settings.decode_seconds),
    )
