"""An HTTP client for OpenAI's async client that is quick with many calls at once, and works on every event loop.

httpx looks at each of its connections at each request. With 100 calls in flight this takes 1.5 s of CPU, and with
aiohttp 0.1 s. But a client of aiohttp belongs to the event loop of its first request, and complains if nobody closes
it. So here each event loop has its own, which is closed with the loop.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import weakref
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import cache
from typing import Any, Final, TypeAlias


@cache
def shared_client() -> Any:
    """The client of all models by name, so that a model which is made for one call finds open connections.

    Raises:
        Exception: as `aiohttp_client`.
    """
    return aiohttp_client()


def aiohttp_client() -> Any:
    """A client for the argument ``http_async_client`` of OpenAI's chat models.

    Raises:
        Exception: the packages for it are not installed. Which exception depends on the version of ``openai``.
    """
    import openai  # noqa: PLC0415 - an extra

    httpx = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
    options = {"verify": httpx.create_ssl_context()}  # reads files, so it is made once, and not on an event loop
    base: Any = type(openai.DefaultAioHttpClient(**options))  # the only check that works with all releases

    class EachLoopClient(base):  # type: ignore[misc]
        """Sends each request with the client of the running event loop."""

        def __init__(self) -> None:
            super().__init__(**options)
            self._keepers: _Keepers = {}
            _OPEN.append(self._keepers)
            weakref.finalize(self, _leave, self._keepers).atexit = False

        async def send(self, request: Any, **more: Any) -> Any:
            keeper = self._keepers.get(loop := asyncio.get_running_loop())
            if keeper is None:
                _end_closed(self._keepers)
                keeper = self._keepers[loop] = _Keeper(base(**options))
                await keeper.begin()
            return await keeper.client.send(request, **more)

        async def aclose(self) -> None:
            await super().aclose()
            if (keeper := self._keepers.pop(asyncio.get_running_loop(), None)) is not None:
                await keeper.end()
            _end_closed(self._keepers)

    return EachLoopClient()


class _Keeper:
    """Closes a client at the end of its event loop.

    An event loop ends the async generators that began on it, in ``asyncio.run`` and wherever ``shutdown_asyncgens`` is
    called. So the client is closed by such a generator.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._kept = _kept(client)
        self._ending: asyncio.Future[None] | None = None

    async def begin(self) -> None:
        """Begin, on the event loop."""
        await anext(self._kept)

    async def end(self) -> None:
        """Close the client, on its event loop."""
        await self._kept.aclose()

    def end_soon(self) -> None:
        """Start to close the client, on its event loop."""
        self._ending = asyncio.ensure_future(self.end())  # the loop itself keeps no task

    def end_after_loop(self) -> None:
        """Close the client of a closed loop. Then nothing has to be waited for."""
        closing = self._kept.aclose()
        with suppress(StopIteration, RuntimeError):
            closing.send(None)
        closing.close()


async def _kept(client: Any) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await client.aclose()


_Keepers: TypeAlias = dict[asyncio.AbstractEventLoop, _Keeper]

_OPEN: Final[list[_Keepers]] = []
"""The keepers of all clients. A client that is collected together with its connections could not close them."""


def _end_closed(keepers: _Keepers) -> None:
    for loop in [one for one in tuple(keepers) if one.is_closed()]:
        if (keeper := keepers.pop(loop, None)) is not None:
            keeper.end_after_loop()


def _leave(keepers: _Keepers) -> None:
    """Close the connections of a client that nobody uses any more.

    Those of a loop that pauses are closed at the end of the process.
    """
    _end_closed(keepers)
    for loop in [one for one in tuple(keepers) if one.is_running()]:
        with suppress(RuntimeError):  # it has just ended
            loop.call_soon_threadsafe(keepers.pop(loop).end_soon)
    if not keepers:
        _OPEN[:] = [one for one in _OPEN if one is not keepers]


@atexit.register
def _leave_all() -> None:
    """Close the connections of loops that nobody closed."""
    for keepers in _OPEN:
        _end_closed(keepers)
        while keepers:
            loop, keeper = keepers.popitem()
            with suppress(RuntimeError):  # it runs in another thread
                loop.run_until_complete(keeper.end())
