"""Ask on the terminal before a cell or a tool call runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, Self

import click
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from rlm_adapters.errors import InputError
from rlm_adapters.views.text import safe

_KEYS: Final = "[y] run it   [a] run it and all that follows   [e] edit it   [n] do not run it"


class Approving(StrEnum):
    """What needs approval."""

    CELLS = "cells"
    TOOLS = "tools"
    ALL = "all"


class Terminal:
    """The controlling terminal. Standard input is not used, because it may be a pipe with the context.

    Args:
        console: where the questions are shown.
        before: called before each question, to remove a progress line from the screen.

    Raises:
        InputError: there is no terminal.
    """

    def __init__(self, console: Console, before: Callable[[], None]) -> None:
        self._console = console
        self._before = before
        try:
            self._keyboard = os.open("/dev/tty", os.O_RDONLY)
        except OSError as error:
            raise InputError(f"--approve needs a terminal, and there is none ({error.strerror})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._keyboard)

    async def ask(self, request: Any) -> dict[str, Any]:
        """Show what waits for approval, and read the user's decision.

        Args:
            request: value of the interrupt (`rlm_adapters.graph.approval.as_interrupt`).

        Returns:
            The decision, for ``Command(resume=...)``.
        """
        self._before()
        action = request["action_requests"][0]
        cell = request["kind"] == "cell"
        self._show(request, action, cell=cell)
        while True:
            self._console.print(Text(_KEYS, style="bold"))
            key = (await self._line()).strip().lower()[:1]
            if key in ("y", "a"):
                return {"type": "approve" if key == "y" else "approve_all"}
            if key == "n":
                self._console.print(Text("why? (the root LM reads it; may be empty)", style="bold"))
                return {"type": "reject", "message": (await self._line()).strip()}
            if key == "e":
                args = await asyncio.to_thread(_edited, action["args"], cell=cell)
                if args is not None:
                    return {"type": "edit", "edited_action": {"name": action["name"], "args": args}}
                self._console.print(Text("nothing was changed, or it could not be read", style="yellow"))

    def _show(self, request: Mapping[str, Any], action: Mapping[str, Any], *, cell: bool) -> None:
        if request.get("problem"):
            self._console.print(Text(safe(str(request["problem"])), style="yellow"))
        text = safe(action["args"]["code"] if cell else json.dumps(action["args"], indent=2, ensure_ascii=False))
        whose = f" of a child run, level {request['depth']}" if request["depth"] else ""
        title = f"run this cell{whose}?" if cell else f"call {action['name']}{whose}?"
        shown = Syntax(text, "python" if cell else "json", word_wrap=True, background_color="default")
        described = safe(action["description"])
        self._console.print(
            Panel(shown, title=title, subtitle=Text(described[:200]), title_align="left", border_style="yellow")
        )

    async def _line(self) -> str:
        """Read a line from the terminal, without a thread for which Ctrl-C would have to wait."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            if not ready.done():
                ready.set_result(os.read(self._keyboard, 4096))

        loop.add_reader(self._keyboard, read)
        try:
            data = await ready
        finally:
            loop.remove_reader(self._keyboard)
        if not data:
            raise InputError("--approve: the terminal was closed; nothing that waited was run")
        return data.decode("utf-8", "replace")


def _edited(args: Mapping[str, Any], *, cell: bool) -> dict[str, Any] | None:
    """The arguments, edited in the user's editor (``$EDITOR``); None if the result cannot be used."""
    text = args["code"] if cell else json.dumps(args, indent=2, ensure_ascii=False)
    try:
        changed = click.edit(text, extension=".py" if cell else ".json")
        if changed is None:
            return None
        read = {"code": changed.rstrip("\n")} if cell else json.loads(changed)
    except (click.ClickException, ValueError):
        return None
    return read if isinstance(read, dict) else None
