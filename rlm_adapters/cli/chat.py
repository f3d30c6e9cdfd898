"""``rlm chat``: several questions about the same inputs. Each can use the variables of the earlier ones."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from rlm_adapters.cli.approval import Approving, Terminal
from rlm_adapters.cli.engine import Models, answer, load_inputs
from rlm_adapters.cli.options import Parallel
from rlm_adapters.cli.output import print_answer
from rlm_adapters.errors import InputError, RLMError
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.usage import Usage, add_usage
from rlm_adapters.values.inputs import STDIN
from rlm_adapters.views.console import ConsoleView
from rlm_adapters.views.text import answer_text, describe_usage, safe

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

_PROMPT: Final = "? "
_LEAVE: Final = frozenset({"/exit", "/quit"})
_THREAD: Final[RunnableConfig] = {"configurable": {"thread_id": "chat"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """The arguments of a conversation."""

    paths: tuple[str, ...]
    models: Models
    limits: Limits
    approve: Approving | None
    parallel: Parallel
    show: bool
    """Whether the trajectory of each question is shown."""


def hold(chat: Chat) -> None:
    """Hold a conversation, until the user ends it.

    Raises:
        InputError: a file or a model cannot be used.
        MissingExtraError: a package is missing.
    """
    chat.models.check()
    if STDIN in chat.paths:
        raise InputError(f"{STDIN} is standard input, from which the questions are read: name a file instead")
    chat.models.load()
    errors = Console(stderr=True)
    with asyncio.Runner() as runner, ConsoleView(errors, show_answer=False) as view:
        conversation = _Conversation(chat, view, errors)
        try:
            runner.run(conversation.open())
            while (question := _next_question()) is not None:
                _answer(runner, conversation, question, errors)
        finally:
            runner.run(conversation.close())


class _Conversation:
    """One thread of a graph, and its usage."""

    def __init__(self, chat: Chat, view: ConsoleView, errors: Console) -> None:
        self._chat = chat
        self._view = view
        self._errors = errors
        self._stack = AsyncExitStack()
        self._inputs: dict[str, Any] = {}
        self._graph: Any = None
        self._terminal: Terminal | None = None
        self.total: Usage = {}

    async def open(self) -> None:
        """Open the models and read the files."""
        from langgraph.checkpoint.memory import InMemorySaver  # noqa: PLC0415 - not needed for `rlm --help`

        from rlm_adapters import create_rlm_graph  # noqa: PLC0415

        chat, stack = self._chat, self._stack
        self._graph = create_rlm_graph(
            *await chat.models.open(stack),
            limits=chat.limits,
            approve=None if chat.approve is None else chat.approve.value,
            parallel=chat.parallel.value,
            checkpointer=InMemorySaver(),
            on_event=self._view.handle if chat.show else None,
        )
        stack.callback(self._graph.close)
        if chat.approve is not None:
            self._terminal = stack.enter_context(Terminal(self._errors, before=self._view.close))
        if chat.paths:
            self._inputs = await load_inputs(chat.paths, self._note)

    async def ask(self, question: str) -> Mapping[str, Any]:
        """Answer a question. The inputs are given with the first question."""
        begun = (await self._graph.aget_state(_THREAD)).values
        given = {"query": question, **({} if begun else self._inputs)}
        result = await answer(self._graph, given, _THREAD, self._terminal)
        self.total = add_usage(self.total, result["usage"])
        return result

    def _note(self, text: str) -> None:
        self._errors.print(Text(f"note: {safe(text)}", style="yellow"))

    async def close(self) -> None:
        """End the workers and close the models."""
        self._view.close()
        await self._stack.aclose()


def _answer(runner: asyncio.Runner, conversation: _Conversation, question: str, errors: Console) -> None:
    """Ask and show the answer. A failure of one question does not end the conversation."""
    try:
        result = runner.run(conversation.ask(question))
    except KeyboardInterrupt:
        errors.print(Text("interrupted: the variables of finished cells are kept", style="yellow"))
        return
    except RLMError as error:
        usage = getattr(error, "usage", None)
        conversation.total = add_usage(conversation.total, usage or {})
        errors.print(Text(safe(" ".join(str(error).split())), style="red"))
        return
    if result["answer"] is not None:
        print_answer(answer_text(result["answer"]))
    if result["error"]:
        errors.print(Text(safe(f"{result['finish_reason']}: {result['error']}"), style="yellow"))
    errors.print(Text(f"in all {describe_usage(conversation.total)}", style="dim"))


def _next_question() -> str | None:
    """The next line that is not empty; None at the end of the input, or when the user ends the conversation."""
    while True:
        try:
            line = _line().strip()
        except (EOFError, KeyboardInterrupt):
            return None
        if line in _LEAVE:
            return None
        if line:
            return line


def _line() -> str:
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - gives input() a history
    return input(_PROMPT)
