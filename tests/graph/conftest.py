"""A way to run a graph in either form."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a graph to its end, once by ``invoke`` and once by ``ainvoke``.

    All calls of a test share one event loop, as the connections of their HTTP client do.
    """
    if request.param == "sync":
        yield lambda graph, given, *args, **kwargs: graph.invoke(given, *args, **kwargs)
        return
    with asyncio.Runner() as runner:
        yield lambda graph, given, *args, **kwargs: runner.run(graph.ainvoke(given, *args, **kwargs))
