"""LangGraph's savers by name, sync and async ones used in the same way. As a program: go on with a suspended run.

python -m tests.langchain.savers KIND LOCATION STORE URL    with the messages as JSON on standard input
"""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, messages_from_dict
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import ChatRLM, ContentStore


@tool
def weather(city: str, unit: str = "C") -> str:
    """Weather of a city.

    Args:
        city: its name.
    """
    return {"Bern": "rain", "Rome": "sun"}.get(city, "fog") + unit


class Killed(BaseException):
    """The process is gone."""


class Dying(InMemorySaver):
    """A saver whose process dies after some writes: what comes later is not saved."""

    left: int | None = None
    """How many writes come before it; None: it lives."""

    def _count(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    def put(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return super().put(*args, **kwargs)

    def put_writes(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return super().put_writes(*args, **kwargs)

    def delete_thread(self, thread_id: str) -> None:
        self._count()
        super().delete_thread(thread_id)


@dataclass(frozen=True)
class Opened:
    """A saver, and how it is used.

    Attributes:
        saver: of LangGraph.
        runner: with the event loop of an async saver; None: it is a sync one.
    """

    saver: Any
    runner: asyncio.Runner | None

    def ask(self, model: Any, messages: Sequence[Any]) -> AIMessage:
        """Call a model in the form that the saver serves."""
        return model.invoke(messages) if self.runner is None else self.runner.run(model.ainvoke(messages))

    def ask_all(self, model: Any, inputs: Sequence[Any]) -> list[Any]:
        """Call a model or an agent with all of them at once."""
        if self.runner is None:
            with ThreadPoolExecutor(len(inputs)) as pool:
                return list(pool.map(model.invoke, inputs))
        return self.runner.run(_gather(model, inputs))

    def sweep(self, model: ChatRLM) -> int:
        """Delete what has expired."""
        return model.sweep_suspended() if self.runner is None else self.runner.run(model.asweep_suspended())

    def threads(self) -> set[str]:
        """The ids of all saved threads."""
        saved = list(self.saver.list(None)) if self.runner is None else self.runner.run(self._collect())
        return {one.config["configurable"]["thread_id"] for one in saved}

    async def _collect(self) -> list[Any]:
        return [one async for one in self.saver.alist(None)]


async def _gather(model: Any, inputs: Sequence[Any]) -> list[Any]:
    return await asyncio.gather(*(model.ainvoke(one) for one in inputs))


@contextmanager
def opened(kind: str, location: str) -> Iterator[Opened]:
    """A saver of that kind."""
    manager = _class_of(kind).from_conn_string(location)
    if not kind.startswith("async"):
        with manager as saver:
            saver.setup()
            yield Opened(saver, None)
        return
    with asyncio.Runner() as runner:
        saver = runner.run(manager.__aenter__())
        try:
            runner.run(saver.setup())
            yield Opened(saver, runner)
        finally:
            runner.run(manager.__aexit__(None, None, None))


def _class_of(kind: str) -> Any:
    if kind == "sqlite":
        from langgraph.checkpoint.sqlite import SqliteSaver as Saver
    elif kind == "async sqlite":
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as Saver
    elif kind == "postgres":
        from langgraph.checkpoint.postgres import PostgresSaver as Saver
    else:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver as Saver
    return Saver


def main(kind: str, location: str, store: str, url: str) -> None:
    """Go on with a suspended run in this process; print what it came to."""
    from langchain_openai import ChatOpenAI

    root, sub = (ChatOpenAI(model=name, base_url=url, api_key="test", max_retries=0) for name in ("root", "sub"))
    with opened(kind, location) as used:
        model = ChatRLM(model=root, sub_model=sub, checkpointer=used.saver, store=ContentStore(store))
        message = used.ask(model.bind_tools([weather]), messages_from_dict(json.load(sys.stdin)))
        model.close()
    told = {"text": message.text, "tool_calls": message.tool_calls, "usage": message.usage_metadata}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
