"""`certify triton`: a real Triton server on a plain Linux machine, without a container."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import BackendUnavailable, DataError

__all__ = ("triton",)


def triton(
    bundle: Annotated[str, typer.Option(help="A shipped bundle's name, or a folder.")] = "digits",
    grpc_port: Annotated[int, typer.Option(help="Of the gateways' calls.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Of Prometheus' scrapes.")] = 8002,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    micro_batch: Annotated[int | None, typer.Option(help="Samples computed together [the CPU's].")] = None,
    instances: Annotated[int | None, typer.Option(help="Worker processes [one for each core].")] = None,
) -> None:
    """Export a bundle and serve it by Triton until Ctrl-C or SIGTERM. The server is downloaded once (57 MB).

    For laptops and tests; in production the server is NVIDIA's container image.
    """
    from ...models.triton.download import TritonUnavailable
    from ...models.triton.server import serve

    try:
        serve(
            bundle,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            engine=engine,
            micro_batch=micro_batch,
            instances=instances,
        )
    except TritonUnavailable as error:
        raise BackendUnavailable(str(error)) from error
    except (FileExistsError, ValueError) as error:
        raise DataError(str(error)) from error
