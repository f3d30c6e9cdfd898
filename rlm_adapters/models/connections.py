"""Drop connections of a chat model's client that belong to a closed event loop.

``asyncio.run`` closes its loop. Connections that stay in a client's pool cannot be read any more, but they still send a
request. So a second ``asyncio.run`` would pay for a call whose answer never arrives, and then for its repetition.
Therefore they are dropped before the first call on another loop. httpx has no public function for this. If the names
of its parts differ, nothing is dropped, and the call is made again (`rlm_adapters.models.provider_errors.is_stale`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_CLIENTS: Final = ("root_async_client", "async_client", "_async_client", "http_async_client", "_client", "client")
"""Attributes in which chat models and the clients of providers keep their HTTP clients."""

_INNER: Final = ("_connection", "_network_stream", "_stream", "transport_stream", "_transport", "_loop")
"""Attributes from a connection of the pool to its event loop. TLS and proxies decide which of them exist."""

_DEPTH: Final = 4


def drop_stale_connections(model: Any) -> int:
    """Remove idle connections of closed event loops from the pools of a model's clients.

    Args:
        model: a LangChain chat model. Other objects have no connections.

    Returns:
        Number of removed connections.
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
    """The existing connection pools of a model or a client. None are created."""
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
    for _ in range(2 * len(_INNER)):  # with proxies and TLS the same names are nested
        inner = next((getattr(part, name) for name in _INNER if getattr(part, name, None) is not None), None)
        if inner is None:
            break
        part = inner
    is_closed = getattr(part, "is_closed", None)
    return hasattr(part, "call_soon") and is_closed is not None and bool(is_closed())
