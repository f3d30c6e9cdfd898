"""Shared parts of the commands that ask: models, inputs, SIGTERM, and a run that may ask the user."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from rlm_adapters.cli.approval import Terminal
from rlm_adapters.errors import InputError
from rlm_adapters.models.providers import open_chat_model, split_name
from rlm_adapters.values.inputs import load_paths
from rlm_adapters.values.urls import URL, is_url

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import RunnableConfig


_LONG_SECONDS: Final = 1.0
"""After this time the user is told that the inputs are still being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The names of the models, and the address of their server."""

    model: str
    sub_model: str | None = None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the root LM, and of the sub-LM if it is another model."""
        return (self.model, self.sub_model) if self.sub_model else (self.model,)

    def check(self) -> None:
        """Check that there is a model.

        Raises:
            InputError: no model is named.
        """
        if not self.model.strip():
            raise InputError("the model is empty: give --model provider:name, or set RLM_MODEL")

    def load(self) -> None:
        """Import what a run needs. This takes seconds. Ctrl-C ends the command at once, as no event loop runs yet."""
        import_module("rlm_adapters.graph")
        for name in self.names:
            provider, _ = split_name(name, openai_compatible=self.base_url is not None)
            with suppress(ImportError):  # when the model is opened, the error says what to install
                import_module(f"langchain_{provider}")

    async def open(self, stack: AsyncExitStack) -> list[BaseChatModel]:
        """Open the root LM, and the sub-LM if it is another model.

        Args:
            stack: closes them.

        Raises:
            InputError: a name, key or address cannot be used.
            MissingExtraError: a provider's package is missing.
        """
        server = {"base_url": self.base_url, "api_key": self.api_key}
        return [await stack.enter_async_context(open_chat_model(name, **server)) for name in self.names]


def end_on_sigterm() -> None:
    """Let SIGTERM cancel the running task, as Ctrl-C does, so that everything is closed."""
    with suppress(NotImplementedError):  # not on Windows
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def load_inputs(paths: Sequence[str], note: Callable[[str], None]) -> dict[str, Any]:
    """The context and the files of a run, from the given paths and addresses.

    Args:
        paths: as on the command line.
        note: called with messages for the user.

    Raises:
        InputError: one of them cannot be read.
    """
    given = [URL(path) if is_url(path) else path for path in paths]
    reading = asyncio.create_task(asyncio.to_thread(load_paths, given))
    if not (await asyncio.wait({reading}, timeout=_LONG_SECONDS))[0]:
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        note(f"reading {paths[0]}{more} takes a while")
    inputs = await reading
    for text in inputs.notes:
        note(text)
    return {"context": inputs.context, "files": dict(inputs.files)}


async def answer(
    graph: Any, given: Mapping[str, Any], thread: RunnableConfig | None, terminal: Terminal | None
) -> Mapping[str, Any]:
    """Run a graph to its end. If it waits for approval, ask on the terminal."""
    from langgraph.types import Command  # noqa: PLC0415 - not needed for `rlm --help`

    result: Mapping[str, Any] = await graph.ainvoke(given, thread)
    while terminal is not None and (waiting := result.get("__interrupt__")):
        answers = {one.id: await terminal.ask(one.value) for one in waiting}
        result = await graph.ainvoke(Command(resume=answers), thread)
    return result
