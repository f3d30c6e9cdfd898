"""What a provider's exception means: its kind, whether to try again, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from rlm_adapters.errors import ModelCallError

_LONGEST_CHAIN: Final = 50
"""Links of an exception that are looked at."""


def classify(error: BaseException) -> ModelCallError:
    """What kind of failure a provider's exception is, read from its status code, class and text.

    Providers' clients have no common base class, but nearly all exceptions carry ``status_code`` and ``response``.
    """
    if isinstance(error, ModelCallError):
        return error
    name = type(error).__name__.lower()
    text = str(error).strip() or type(error).__name__
    short = text if len(text) <= 500 else text[:500] + " ..."
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    lowered = text.lower()
    if is_stale(error):
        return ModelCallError(f"connection to the model failed: {short}", kind="network", retryable=True)
    if connection_error(error) is not None:  # some transports report a refused connection as a time-out
        return ModelCallError(f"connection to the model failed: {short}", kind="network", retryable=True)
    if isinstance(error, TimeoutError) or "timeout" in name or status == 408:
        return ModelCallError(f"model call timed out: {short}", kind="timeout", retryable=True)
    if (
        "context_length" in lowered
        or "maximum context" in lowered
        or "too many tokens" in lowered
        or "contextoverflow" in name
    ):
        return ModelCallError(short, kind="context_length")
    if status == 429 or "ratelimit" in name:
        quota = "insufficient_quota" in lowered
        return ModelCallError(short, kind="rate_limit", retryable=not quota)
    if status in (401, 403) or "authentication" in name or "permissiondenied" in name:
        return ModelCallError(short, kind="auth")
    if (isinstance(status, int) and status >= 500) or "internalserver" in name or "overloaded" in lowered:
        return ModelCallError(short, kind="server", retryable=True)
    if isinstance(status, int) and status >= 400:
        return ModelCallError(short, kind="refusal" if "content_filter" in lowered else "bad_request")
    if (
        isinstance(error, ConnectionError | EOFError)
        or "connect" in name
        or "protocolerror" in name
        or "readerror" in name
    ):
        return ModelCallError(f"connection to the model failed: {short}", kind="network", retryable=True)
    if "jsondecode" in name or "apiresponsevalidation" in name:
        return ModelCallError(f"the model's server answered nonsense: {short}", kind="server", retryable=True)
    return ModelCallError(f"{type(error).__name__}: {short}", kind="other")


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it, the nearest first: both its ``__cause__`` and its ``__context__``.

    Clients raise their own exception inside an ``except`` block, some with ``from`` and some without: following the
    causes alone loses what the operating system said. Each exception comes once, a circle ends.
    """
    seen: set[int] = set()
    waiting: deque[BaseException | None] = deque([error])
    while waiting and len(seen) < _LONGEST_CHAIN:
        link = waiting.popleft()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__]


def is_stale(error: BaseException) -> bool:
    """Whether a call met a connection of the client's pool from an earlier ``asyncio.run``.

    Nothing was sent. The client drops that connection, and takes the next one of its pool: there may be many of them.
    """
    return any(isinstance(link, RuntimeError) and "event loop is closed" in str(link).lower() for link in chain(error))


def connection_error(error: BaseException) -> ConnectionError | None:
    """What the operating system said of a connection, None if nothing at the bottom of an exception came from there."""
    found = [link for link in chain(error) if isinstance(link, ConnectionError)]
    return next((link for link in found if link.strerror), found[0] if found else None)


def retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait (``Retry-After``), None if it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        value = headers.get("retry-after") if headers is not None else None
        return None if value is None else max(0.0, float(value))
    except (TypeError, ValueError):
        return None
