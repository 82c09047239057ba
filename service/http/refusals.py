"""Refusals of a flood are sent late: whoever asks again as soon as he is answered would take a core from others."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..errors import BudgetSpent, QueueFull, RequestError, Unauthorized
from .admission import PROMPT_MISTAKES, PROMPT_REFUSALS
from .connections import HeldBack
from .context import gateway_of

__all__ = ("hold_back",)

# What is over before any work is done, and can be had again at once. Not what tells a client to go elsewhere.
_MISTAKES = (RequestError, HTTPException)
_CHEAP = (*_MISTAKES, QueueFull, BudgetSpent, Unauthorized)


async def hold_back(request: Request, error: Exception) -> None:
    """Wait before the answer to `error`, if it is one of a flood of refusals (http/admission.py)."""
    if not isinstance(error, _CHEAP):
        return
    error.__traceback__ = error.__context__ = error.__cause__ = None  # frames that have the body, which is not to wait
    # What waits so is nobody's work: its connection may be closed for another's.
    held_back = getattr(request.state, "held_back", None) or HeldBack()
    held_back.now = True
    held_back.forget()
    try:
        prompt = PROMPT_MISTAKES if isinstance(error, _MISTAKES) else PROMPT_REFUSALS
        await gateway_of(request).admission.hold_back(prompt)
    finally:
        held_back.now = False
