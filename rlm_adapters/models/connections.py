"""Connections of a chat model's client that belong to an event loop that is closed.

``asyncio.run`` closes its loop; connections that stay in a client's pool cannot be read any more, but they still take a
request and send it. So a second ``asyncio.run`` would pay for a call whose answer never arrives, and then for its
repetition. They are dropped before the first call on another loop. httpx has no public way to do so: where its parts
are called otherwise nothing is dropped, and the call is made again (`rlm_adapters.models.provider_errors.is_stale`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_CLIENTS: Final = ("root_async_client", "async_client", "_async_client", "http_async_client", "_client", "client")
"""Where chat models and the clients of providers keep what they send with."""

_INNER: Final = ("_connection", "_network_stream", "_stream", "transport_stream", "_transport", "_loop")
"""From a connection of the pool to its event loop; which of them there are depends on TLS and proxies."""

_DEPTH: Final = 4


def drop_stale_connections(model: Any) -> int:
    """Take idle connections of closed event loops out of the pools of a model's clients.

    Args:
        model: a LangChain chat model; anything else has none.

    Returns:
        How many there were.
    """
    dropped = 0
    for pool in _pools(model, _DEPTH, set()):
        known = getattr(pool, "_connections", None)
        if not isinstance(known, list):
            continue
        for connection in list(known):
            if connection.is_idle() and _belongs_to_closed_loop(connection):
                known.remove(connection)
                dropped += 1
    return dropped


def _pools(thing: Any, depth: int, seen: set[int]) -> Iterator[Any]:
    """The connection pools that a model or a client has; nothing is made that is not there yet."""
    if id(thing) in seen or not depth:
        return
    seen.add(id(thing))
    parts = {**(getattr(thing, "__dict__", None) or {}), **(getattr(thing, "__pydantic_private__", None) or {})}
    for transport in (parts.get("_transport"), *_values(parts.get("_mounts"))):
        if (pool := getattr(transport, "_pool", None)) is not None:
            yield pool
    for name in _CLIENTS:
        if (inner := parts.get(name)) is not None:
            yield from _pools(inner, depth - 1, seen)


def _values(mounts: Any) -> list[Any]:
    return list(mounts.values()) if isinstance(mounts, dict) else []


def _belongs_to_closed_loop(connection: Any) -> bool:
    part = connection
    for _ in range(2 * len(_INNER)):  # proxies and TLS nest the same names
        inner = next((getattr(part, name) for name in _INNER if getattr(part, name, None) is not None), None)
        if inner is None:
            break
        part = inner
    is_closed = getattr(part, "is_closed", None)
    return hasattr(part, "call_soon") and is_closed is not None and bool(is_closed())
