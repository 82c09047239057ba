"""What a service answers instead of an answer, and what the network does, as errors of certify.service.errors."""

from __future__ import annotations

import httpx

from ...models.retries import retry_after_seconds
from ..answering.schemas import Problem
from ..errors import (
    BackendUnavailable,
    BudgetSpent,
    CertifyError,
    DeadlineExceeded,
    Draining,
    QueueFull,
    RequestError,
    Unauthorized,
)

__all__ = ("foreign", "passes", "refusal", "told", "unreachable")

# Whatever says so: the service, or a balancer before it. With a problem document of its own 504 is the deadline's.
_PASSING_STATUS = (429, 503)
_PASSING_STATUS_OF_PROXIES = (502, 504)
# The network's failures. A wrong address (httpx.UnsupportedProtocol) is none of them.
_PASSING_ERRORS = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)


def passes(error: Exception) -> bool:
    """Whether the same request may be answered later. To send it again is safe whatever it was: see exchanges.py."""
    if isinstance(error, CertifyError):
        codeless = error.code is None and error.status in _PASSING_STATUS_OF_PROXIES
        return codeless or error.status in _PASSING_STATUS
    return isinstance(error, _PASSING_ERRORS)


def refusal(url: str, response: httpx.Response, content: bytes) -> CertifyError:
    """Of a response that is no success. content: its body."""
    try:
        problem = Problem.model_validate_json(content)
    except ValueError:  # a balancer's own page, or somebody else's site
        if response.status_code not in (*_PASSING_STATUS, *_PASSING_STATUS_OF_PROXIES):
            return foreign(url)
        error = BackendUnavailable(f"{url}: answered {response.status_code}")
        error.status = response.status_code
        error.retry_after_seconds = retry_after_seconds(response.headers.get("retry-after"))
        error.request_id = response.headers.get("x-request-id")
        return error
    return told(url, problem, retry_after=retry_after_seconds(response.headers.get("retry-after")))


def told(url: str, problem: Problem, *, retry_after: float | None = None) -> CertifyError:
    """Of a problem document. retry_after: as a header says it; in a stream the document does."""
    members = dict(problem.model_extra or {})
    members.pop("timing", None)
    stated = members.pop("retry_after_seconds", None)
    if retry_after is None and isinstance(stated, int | float) and stated >= 0:
        retry_after = stated
    error = _of_code(url, problem, members, int(retry_after or 1))
    error.status, error.code, error.retry_after_seconds = problem.status, problem.code, retry_after
    error.field = None if members.get("field") is None else str(members["field"])
    error.hints = {name: hint for name, hint in members.items() if name != "field"}
    error.request_id = problem.instance.removeprefix("urn:uuid:")
    return error


def _of_code(url: str, problem: Problem, members: dict[str, object], retry_after: int) -> CertifyError:
    match problem.code:
        case "queue_full":
            return QueueFull(f"{url}: {problem.detail}", retry_after)
        case "budget_spent":
            return BudgetSpent(f"{url}: {problem.detail}", retry_after)
        case "draining":
            return Draining(f"{url}: {problem.detail}")
        case "deadline_exceeded":
            return DeadlineExceeded(problem.detail)
        case "unauthorized":
            return Unauthorized(f"{url}: {problem.detail}")
        case "backend_unavailable" | "internal_error" | "out_of_memory" | "preview_unavailable":
            return BackendUnavailable(f"{url}: {problem.code}: {problem.detail} ({problem.instance})")
    return RequestError(problem.code, problem.detail, **members, instance=problem.instance)


def foreign(url: str) -> BackendUnavailable:
    """Of an answer that is none of ours."""
    return BackendUnavailable(f"{url}: expected the answer of a certify service, got something else")


def unreachable(url: str, error: Exception, tries: int = 1) -> BackendUnavailable:
    """Of what httpx raises."""
    often = f", tried {tries} times" if tries > 1 else ""
    return BackendUnavailable(f"{url}: cannot be asked: {type(error).__name__}: {error}{often}")
