"""The least that a FastAPI service costs: an endpoint that takes the form of POST /certify and returns its JSON.

python -m benchmarks.bare PORT ANSWER.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, File, Form, UploadFile

__all__ = ("bare_app",)


def bare_app(answer: dict[str, Any]) -> FastAPI:
    """Nothing is looked at, nothing computed."""
    app = FastAPI()

    @app.post("/certify")
    async def certify(
        image: Annotated[UploadFile, File()],
        radius: Annotated[float | None, Form()] = None,
        samples: Annotated[int, Form()] = 10_000,
    ) -> dict[str, Any]:
        await image.read()
        return answer

    return app


if __name__ == "__main__":
    port, path = sys.argv[1:]
    app = bare_app(json.loads(Path(path).read_text(encoding="utf-8")))
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False)
