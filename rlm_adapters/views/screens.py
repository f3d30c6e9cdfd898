"""Screens of the live view: panels and a progress line on a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Literal, Protocol, TypeAlias

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.text import Text

from rlm_adapters.views.markdown import answer_view
from rlm_adapters.views.text import safe

Form: TypeAlias = Literal["text", "code", "markdown"]

_WIDE: Final = 60
"""From this number of columns on, the progress of a batch has a bar and a clock."""
_LOG_SECONDS: Final = 30.0


class Screen(Protocol):
    """Where a view shows its texts; ``key`` identifies one of several activities at the same time."""

    def block(self, title: str, body: str, style: str, indent: int, *, form: Form = "text") -> None:
        """Show a text with a title."""
        ...

    def line(self, text: str, style: str, indent: int) -> None:
        """Show a line of text."""
        ...

    def working(self, key: Hashable, text: str, total: int | None) -> None:
        """Start or change an activity; ``total`` is the number of its steps, if known."""
        ...

    def advance(self, key: Hashable, done: int, said: str, time: float) -> None:
        """Set the number of finished steps; ``said`` is the text for it, ``time`` is in seconds since the epoch."""
        ...

    def stop(self, key: Hashable) -> None:
        """End an activity."""
        ...

    def close(self) -> None:
        """Stop showing anything."""
        ...


class Panels:
    """For a terminal: panels scroll, and each activity has a line below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[Hashable, TaskID] = {}
        wide = console.width >= _WIDE
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            *([BarColumn(bar_width=20)] if wide else ()),
            TextColumn("{task.fields[said]}", markup=False),
            *([TimeElapsedColumn()] if wide else ()),
            console=console,
            transient=True,
            redirect_stdout=False,  # they belong to the whole process
            redirect_stderr=False,
        )

    def block(self, title: str, body: str, style: str, indent: int, *, form: Form = "text") -> None:
        """Show a panel."""
        content: RenderableType = Text(safe(body))
        if form == "code":
            content = Syntax(safe(body), "python", theme="ansi_dark", background_color="default", word_wrap=True)
        elif form == "markdown":
            content = answer_view(safe(body))
        panel = Panel(content, title=Text(safe(title)), title_align="left", border_style=style)
        self._console.print(Padding(panel, (0, 0, 0, 2 * indent)))

    def line(self, text: str, style: str, indent: int) -> None:
        """Show a line without a frame."""
        self._console.print(Padding(Text(safe(text), style=style), (0, 0, 0, 2 * indent + 1)))

    def working(self, key: Hashable, text: str, total: int | None) -> None:
        """Show a line below the panels."""
        self._progress.start()
        text = safe(text)
        if key in self._tasks:
            self._progress.update(self._tasks[key], description=text, total=total, said="")
        else:
            self._tasks[key] = self._progress.add_task(text, total=total, said="")

    def advance(self, key: Hashable, done: int, said: str, time: float) -> None:
        """Update the line."""
        del time
        if key in self._tasks:
            self._progress.update(self._tasks[key], completed=done, said=said)

    def stop(self, key: Hashable) -> None:
        """Remove the line. After the last one, nothing is drawn until there is another line."""
        if key in self._tasks:
            self._progress.remove_task(self._tasks.pop(key))
        if not self._tasks:
            self._progress.stop()

    def close(self) -> None:
        """Stop drawing."""
        self._progress.stop()


class Lines:
    """For logs and pipes: plain lines without animation."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._about: dict[Hashable, str] = {}
        self._told: dict[Hashable, float] = {}

    def block(self, title: str, body: str, style: str, indent: int, *, form: Form = "text") -> None:
        """Write the title in brackets, and the text below it."""
        del style, form
        self._write(f"[{safe(title)}]", indent)
        for line in safe(body).splitlines():
            self._write(f"  {line}", indent)

    def line(self, text: str, style: str, indent: int) -> None:
        """Write the lines of a text."""
        del style
        for line in safe(text).splitlines():
            self._write(line, indent)

    def working(self, key: Hashable, text: str, total: int | None) -> None:
        """Remember the activity, to report on a batch that takes long."""
        self._about[key] = text if total is not None else ""

    def advance(self, key: Hashable, done: int, said: str, time: float) -> None:
        """Write a line every `_LOG_SECONDS` for a batch that takes long."""
        del done
        if not self._about.get(key):
            return
        if time - self._told.setdefault(key, time) >= _LOG_SECONDS:
            self._told[key] = time
            self._write(safe(f"{self._about[key]}: {said}"), 0)

    def stop(self, key: Hashable) -> None:
        """Forget the activity."""
        self._about.pop(key, None)
        self._told.pop(key, None)

    def close(self) -> None:
        """Do nothing."""

    def _write(self, text: str, indent: int) -> None:
        self._console.file.write(f"{'  ' * indent}{text}\n")
        self._console.file.flush()
