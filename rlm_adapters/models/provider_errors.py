"""Read an exception of a provider's client: status, codes, and errors of the operating system.

The clients of providers have no common base class, but nearly all exceptions have ``status_code`` and ``response``.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

_LONGEST_CHAIN: Final = 50
"""Most exceptions of a chain that are checked."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and all exceptions that led to it, the nearest first: by ``__cause__`` and ``__context__``.

    Clients raise their own exception inside an ``except`` block, some with ``from`` and some without. So ``__cause__``
    is not enough to find the error of the operating system. Each exception occurs only once, also in a cycle.
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
    """Whether a call used a connection of the client's pool from an earlier ``asyncio.run``.

    The client drops this connection and uses the next one of its pool, which may have many of them. The request was
    sent, but its answer cannot be read. So `rlm_adapters.models.connections` drops such connections before a call.
    """
    return any(isinstance(link, RuntimeError) and "event loop is closed" in str(link).lower() for link in chain(error))


def network_error(error: BaseException) -> str | None:
    """The operating system's error about a connection; None if the exception does not come from there."""
    found = [link for link in chain(error) if isinstance(link, ConnectionError | socket.gaierror)]
    if not found:
        return None
    return next((str(link.strerror) for link in found if link.strerror), str(found[0]))


def never_connected(error: BaseException) -> bool:
    """Whether there was no server: the connection was refused, or the name is unknown."""
    return any(isinstance(link, ConnectionRefusedError | socket.gaierror) for link in chain(error))


def retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait (``Retry-After``); None if it does not ask."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        value = headers.get("retry-after") if headers is not None else None
        return None if value is None else max(0.0, float(value))
    except (TypeError, ValueError):
        return None


def status_of(error: BaseException) -> int | None:
    """The status of the server's answer; None if there is none."""
    response = getattr(error, "response", None)
    found = (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(error, "status", None),
    )
    return next((status for status in found if isinstance(status, int)), None)


def codes_of(error: BaseException) -> set[str]:
    """The provider's error codes, which clients often leave out of the message."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    told = [inner.get("code"), inner.get("type")] if isinstance(inner, Mapping) else []
    told += [getattr(error, name, None) for name in ("code", "type", "provider_code")]
    return {code.lower() for code in told if isinstance(code, str)}


def is_no_address(error: BaseException) -> bool:
    """Whether the given address is not valid for the client."""
    return any(
        type(link).__name__ in ("UnsupportedProtocol", "InvalidURL", "InvalidUrlClientError")
        or "missing scheme" in str(link).lower()
        for link in chain(error)
    )


def answers_html(error: BaseException) -> bool:
    """Whether the answer was a web page. Clients fail on it in many ways."""
    documents = [getattr(link, "doc", None) for link in chain(error)]
    if any(isinstance(document, str) and document.lstrip().startswith("<") for document in documents):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("<html", "<!doctype", "'str' object has no attribute 'model_dump'"))
