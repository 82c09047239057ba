"""The least that a FastAPI service costs: an endpoint that takes the form of POST /certify and returns its JSON.

All fields of the form are FastAPI's own parameters, and the answer goes through a response model, as in any service.

python -m benchmarks.bare PORT ANSWER.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, File, Form, UploadFile

from certify.models.bundle import Final
from certify.service.answering.schemas import CertifyAnswer

__all__ = ("bare_app",)


def bare_app(answer: dict[str, Any]) -> FastAPI:
    """Nothing is looked at, nothing computed."""
    app = FastAPI()

    @app.post("/certify", response_model=CertifyAnswer)
    async def certify(
        image: Annotated[UploadFile, File()],
        radius: Annotated[float | None, Form(gt=0)] = None,
        norm: Annotated[Literal["l2", "linf"], Form()] = "l2",
        samples: Annotated[int, Form(ge=1)] = 10_000,
        alpha: Annotated[float, Form(ge=1e-9, le=0.1)] = 0.001,
        threshold: Annotated[list[float] | None, Form()] = None,
        final: Annotated[Final | None, Form()] = None,
        sigmas: Annotated[list[float] | None, Form()] = None,
        deadline_ms: Annotated[int | None, Form(ge=1)] = None,
        resize: Annotated[bool, Form()] = False,
    ) -> dict[str, Any]:
        await image.read()
        return answer

    return app


if __name__ == "__main__":
    port, path = sys.argv[1:]
    app = bare_app(json.loads(Path(path).read_text(encoding="utf-8")))
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False)
