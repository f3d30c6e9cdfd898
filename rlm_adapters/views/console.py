"""Live view of a trajectory in the terminal: cells, their output, sub-calls, the answer, and what it took.

A view is a consumer of events: ``create_rlm_graph(..., on_event=view.handle)``. On a terminal it draws panels and a
progress line; elsewhere it writes plain lines, which read well in a log.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, Self, TypeAlias

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.text import Text

from rlm_adapters.events import Event
from rlm_adapters.views.markdown import answer_view

_Form: TypeAlias = Literal["text", "code", "markdown"]

ANSWERED: Final = frozenset({"submitted", "text"})
"""Finish reasons that mean that the model itself gave the answer."""

_MAX_LINES = 30  # of an output or a cell on the screen; the whole of it is in the events
_MAX_LINE = 600  # characters of one line
_HEAD_CHARS, _HEAD_WORDS = 60, 40  # of a prompt or an answer in a line
_WIDE: Final = 60
"""Columns from which on there is room for a bar and a clock beside the progress of a batch."""
_FIRST_PACE: Final = 1.0
"""Seconds after which a rate means something."""
_LOG_SECONDS: Final = 30.0

# A cell prints what its input holds: escape sequences in it must not reach the user's terminal.
_UNSAFE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\ud800-\udfff]")


def safe(text: str) -> str:
    """A text with its control characters made visible, harmless to a terminal."""
    return _UNSAFE.sub(lambda match: f"\\x{ord(match.group()):02x}", text.replace("\r\n", "\n"))


def clipped(text: str, lines: int = _MAX_LINES) -> str:
    """Head and tail of a text, with what is left out counted between them."""
    parts = text.splitlines()
    if len(parts) > lines:
        head, tail = lines * 2 // 3, lines - lines * 2 // 3
        parts = [*parts[:head], f"... {len(parts) - lines:,} lines ...", *parts[len(parts) - tail :]]
    return "\n".join(line if len(line) <= _MAX_LINE else _clipped_line(line) for line in parts)


def _clipped_line(line: str) -> str:
    half = _MAX_LINE // 2
    return f"{line[:half]} ... {len(line) - 2 * half:,} characters ... {line[-half:]}"


def describe_usage(usage: Mapping[str, Any]) -> str:
    """Calls, tokens and cost of a run in one line."""
    parts = [
        _count(model_calls(usage), "model call"),
        f"{usage.get('input_tokens', 0):,} + {usage.get('output_tokens', 0):,} tokens",
    ]
    if usage.get("failed_calls"):
        parts.insert(1, f"{usage['failed_calls']:,} failed")
    if usage.get("cost", 0) is None:
        parts.append("cost unknown")
    elif usage.get("cost"):
        parts.append(f"${usage['cost']:.4f}")
    if usage.get("ahead_wasted"):
        parts.append(f"{usage['ahead_wasted']} run ahead in vain")
    return ", ".join(parts)


def model_calls(usage: Mapping[str, Any]) -> int:
    """How many model calls were answered, of whatever kind."""
    return sum(int(usage.get(key, 0)) for key in ("calls", "root_calls", "extract_calls"))


class ConsoleView:
    """Shows the events of one run and its children. Thread-safe.

    Args:
        console: where to draw; None: standard error, so that standard output stays free for the answer.
        show_answer: False where the caller prints the answer itself.
        verbose: show the models and limits, each reply's time and tokens, and a line for each sub-call.
    """

    def __init__(self, console: Console | None = None, *, show_answer: bool = True, verbose: bool = False) -> None:
        console = console or Console(stderr=True)
        self._screen: _Screen = _Panels(console) if console.is_terminal else _Lines(console)
        self._show_answer = show_answer
        self._verbose = verbose
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the progress line off the screen."""
        with self._lock:
            self._screen.close()

    def handle(self, event: Event) -> None:
        """Show one event."""
        show: Callable[[Event, _Run], None] = getattr(self, f"_{event.type}")
        with self._lock:
            run = self._runs.setdefault(event.run_id, _Run(self._label(event), event.depth))
            show(event, run)

    def _label(self, event: Event) -> str:
        return f"child {len(self._runs)}" if event.parent_run_id is not None else ""

    # One method for each type of event

    def _run_started(self, event: Event, run: _Run) -> None:
        data = event.data
        inputs = "\n".join(_describe_input(item) for item in data.get("inputs") or ())
        self._screen.block(
            run.title("question"), clipped(safe(f"{data.get('query', '')}\n{inputs}")), "blue", run.depth
        )

        if self._verbose:
            known = {"root LM": data.get("model"), "sub-LM": data.get("sub_model"), **(data.get("limits") or {})}
            told = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
            self._screen.line(safe(told), "dim", run.depth)

    def _iteration_started(self, event: Event, run: _Run) -> None:
        self._sum_up_retries(run)
        used = event.data.get("used") or {}
        if model_calls(used):
            self._screen.line(run.title(f"so far: {describe_usage(used)}"), "dim", run.depth)
        self._screen.working(event.run_id, run.title(f"the root LM writes cell {event.iteration}"), None)

    def _extract_started(self, event: Event, run: _Run) -> None:
        self._screen.working(event.run_id, run.title("the root LM is asked for the best answer so far"), None)

    def _root_replied(self, event: Event, run: _Run) -> None:
        """What was made of the reply is shown; if wanted, what it took."""
        if self._verbose:
            told = _figures(event.data)
            self._screen.line(run.title(f"root LM {safe(str(event.data.get('model', '')))}: {told}"), "dim", run.depth)

    def _call_started(self, event: Event, run: _Run) -> None:
        """Calls are counted together; if wanted, each has a line when it is answered."""
        if self._verbose:
            run.prompts[event.id or ""] = _head(event.data.get("prompt"))

    def _limit(self, event: Event, run: _Run) -> None:
        """Nothing: the end of the run names the limit."""

    def _code(self, event: Event, run: _Run) -> None:
        self._screen.stop(event.run_id)
        run.calls = _Calls()
        reasoning = str(event.data.get("reasoning") or "").strip()
        if reasoning:
            self._screen.line(clipped(safe(reasoning), 6), "italic", run.depth)
        code = clipped(safe(str(event.data.get("code", ""))))
        self._screen.block(run.title(f"cell {event.iteration}"), code, "cyan", run.depth, form="code")
        self._screen.working(event.run_id, run.title(f"cell {event.iteration} runs"), None)

    def _cell_output(self, event: Event, run: _Run) -> None:
        self._screen.stop(event.run_id)
        data = event.data
        if run.calls.total:
            self._screen.line(run.calls.describe(), "magenta", run.depth)
        if data.get("replaced"):
            self._screen.line("the worker was replaced; its variables are back", "yellow", run.depth)
        error = data.get("error")
        body = "\n".join(safe(str(part)).rstrip() for part in (data.get("stdout"), error) if part)
        title = run.title(f"{'error in' if error else 'output of'} cell {event.iteration}")
        if body:
            self._screen.block(title, clipped(body), "red" if error else "green", run.depth)
        else:
            self._screen.line(run.title(f"cell {event.iteration} printed nothing"), "dim", run.depth)

    def _calls_started(self, event: Event, run: _Run) -> None:
        count = event.data.get("count", 1)
        run.calls.start(count, str(event.data.get("function", "")), event.time)
        # One call at a time says nothing of how many will follow.
        run.calls.counted = count > 1
        self._screen.working(event.run_id, run.title(run.calls.name), run.calls.total if count > 1 else None)
        self._screen.advance(event.run_id, run.calls.done, run.calls.pace(event.time), event.time)

    def _call_finished(self, event: Event, run: _Run) -> None:
        if not event.data.get("dropped"):
            run.calls.finish(event.data.get("usage"), event.data.get("error"))
        if self._verbose:
            data, prompt = event.data, run.prompts.pop(event.id or "", "")
            said = data.get("dropped") or data.get("error")
            name = " ".join(filter(None, (str(data.get("function", "")), safe(str(data.get("model") or "")))))
            line = f"{name}, {_figures(data)}: {prompt} -> {_head(said or data.get('answer'))}"
            self._screen.line(run.title(line), "red" if said else "dim", run.depth)
        self._screen.advance(event.run_id, run.calls.done, run.calls.pace(event.time), event.time)

    def _child_started(self, event: Event, run: _Run) -> None:
        """Nothing: the child's own first event shows its question."""

    def _sum_up_retries(self, run: _Run) -> None:
        for (model, kind), count in run.retries.items():
            if count > 1:  # the first one was shown when it was made
                self._screen.line(f"{count:,} retries of {safe(model)} ({safe(kind)})", "yellow", run.depth)
        run.retries.clear()

    def _warning(self, event: Event, run: _Run) -> None:
        retry = event.data.get("retry")
        if isinstance(retry, Mapping):
            key = str(retry.get("model")), str(retry.get("kind"))
            run.retries[key] = run.retries.get(key, 0) + 1
            if run.retries[key] > 1:
                return  # a batch may be refused as a whole
        self._screen.line(f"warning: {safe(str(event.data.get('message', '')))}", "yellow", run.depth)

    def _repair(self, event: Event, run: _Run) -> None:
        if event.data.get("call"):
            self._screen.line(run.title("a sub-LM was asked again: its reply did not fit"), "dim", run.depth)
            return
        self._screen.stop(event.run_id)
        reason = safe(str(event.data.get("reason", "")))
        message = clipped(safe(str(event.data.get("message", ""))), 4)
        if reply := str(event.data.get("reply") or "").strip():
            title = run.title(f"reply {event.iteration}, of which nothing can be run")
            self._screen.block(title, clipped(safe(reply)), "yellow", run.depth)
        self._screen.line(f"asked again ({reason}): {message}", "yellow", run.depth)

    def _final(self, event: Event, run: _Run) -> None:
        if run.depth or self._show_answer:
            self._show(event.data.get("answer"), "bold green", run)
            run.answered = True

    def _show(self, answer: object, style: str, run: _Run) -> None:
        form: _Form = "markdown" if isinstance(answer, str) else "text"
        self._screen.block(run.title("answer"), safe(answer_text(answer)), style, run.depth, form=form)

    def _run_finished(self, event: Event, run: _Run) -> None:
        self._screen.stop(event.run_id)
        self._sum_up_retries(run)
        data = event.data
        reason = str(data.get("finish_reason", ""))
        answer = data.get("answer")
        if answer is not None and not run.answered and (run.depth or self._show_answer):
            self._show(answer, "yellow", run)
        if data.get("error"):
            self._screen.line(f"error: {safe(str(data['error']))}", "red", run.depth)
        parts = [run.title(reason if reason in ANSWERED else f"ended by {reason}")]
        if data.get("iterations") is not None:
            parts.append(_count(data["iterations"], "iteration"))
        parts.append(describe_usage(data.get("usage") or {}))
        if data.get("seconds") is not None:
            parts.append(f"{data['seconds']:.1f} s")
        self._screen.line(" | ".join(parts), "dim" if reason in ANSWERED else "yellow", run.depth)


def answer_text(answer: object) -> str:
    """An answer as text: itself when it is one, else JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, indent=2, default=repr)


@dataclass(slots=True)
class _Calls:
    """The sub-calls of the cell in progress: waves of them add up."""

    total: int = 0
    done: int = 0
    failed: int = 0
    tokens: int = 0
    error: str = ""
    names: dict[str, int] = field(default_factory=dict)
    began: float | None = None
    """Seconds since the epoch."""
    counted: bool = False
    """Whether it is known how many there will be."""

    @property
    def name(self) -> str:
        return ", ".join(self.names)

    def start(self, count: int, function: str, time: float) -> None:
        self.began = time if self.began is None else self.began
        self.total += count
        self.names[function] = self.names.get(function, 0) + count

    def finish(self, usage: Mapping[str, Any] | None, error: object) -> None:
        self.done += 1
        self.tokens += (usage or {}).get("input_tokens", 0) + (usage or {}).get("output_tokens", 0)
        if error:
            self.failed += 1
            self.error = self.error or str(error)

    def pace(self, time: float) -> str:
        """How many are answered, how many a second, and how long the rest takes at that rate."""
        if not self.counted:
            return f"{self.done:,} done" if self.done else ""
        count = f"{self.done:,}/{self.total:,}"
        passed = time - (self.began if self.began is not None else time)
        if not self.done or passed < _FIRST_PACE:
            return count
        rate, left = self.done / passed, self.total - self.done
        often = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        return f"{count} {often}, {_clock(left / rate)} left" if left > 0 else f"{count} {often}"

    def describe(self) -> str:
        parts = [_count(count, f"{name} call") for name, count in self.names.items()]
        if self.tokens:
            parts.append(f"{self.tokens:,} tokens")
        if self.failed:
            parts.append(f"{self.failed} failed ({clipped(safe(self.error), 1)})")
        return ", ".join(parts)


@dataclass(slots=True)
class _Run:
    label: str
    depth: int
    calls: _Calls = field(default_factory=_Calls)
    answered: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    """Heads of the prompts of the calls in flight, by id."""
    retries: dict[tuple[str, str], int] = field(default_factory=dict)
    """How often calls were retried since the last turn, by model and kind of failure."""

    def title(self, text: str) -> str:
        return f"{self.label}: {text}" if self.label else text


def _describe_input(item: Mapping[str, Any]) -> str:
    size, kind = item.get("size"), item.get("type")
    unit = {"str": "character", "bytes": "byte"}.get(str(kind), "item")
    return f"{item.get('name')}: {kind}" + (f", {_count(size, unit)}" if isinstance(size, int) else "")


def _head(text: object) -> str:
    """The beginning of a text, in one line."""
    whole = " ".join(str(text or "").split()[:_HEAD_WORDS])
    return safe(whole if len(whole) <= _HEAD_CHARS else f"{whole[:_HEAD_CHARS]}...")


def _figures(data: Mapping[str, Any]) -> str:
    """Seconds, tokens and cost of a call."""
    tokens, parts = data.get("tokens") or {}, []
    if isinstance(data.get("seconds"), int | float):
        parts.append(f"{data['seconds']:.1f} s")
    if tokens.get("input") or tokens.get("output"):
        cached = f" ({tokens['cached']:,} cached)" if tokens.get("cached") else ""
        parts.append(f"{tokens.get('input', 0):,}{cached} + {tokens.get('output', 0):,} tokens")
    if data.get("cost"):
        parts.append(f"${data['cost']:.4f}")
    if data.get("attempts", 1) > 1:
        parts.append(f"{data['attempts']} attempts")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class _Screen(Protocol):
    """How things are put before the user; ``key`` tells activities apart that go on at the same time."""

    def block(self, title: str, body: str, style: str, indent: int, *, form: _Form = "text") -> None: ...

    def line(self, text: str, style: str, indent: int) -> None: ...

    def working(self, key: Hashable, text: str, total: int | None) -> None: ...

    def advance(self, key: Hashable, done: int, said: str, time: float) -> None: ...

    def stop(self, key: Hashable) -> None: ...

    def close(self) -> None: ...


class _Panels:
    """For a terminal: panels scroll by, activities have a line each below them."""

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
        )

    def block(self, title: str, body: str, style: str, indent: int, *, form: _Form = "text") -> None:
        content: RenderableType = Text(safe(body))
        if form == "code":
            content = Syntax(safe(body), "python", theme="ansi_dark", background_color="default", word_wrap=True)
        elif form == "markdown":
            content = answer_view(safe(body))
        panel = Panel(content, title=Text(safe(title)), title_align="left", border_style=style)
        self._console.print(Padding(panel, (0, 0, 0, 2 * indent)))

    def line(self, text: str, style: str, indent: int) -> None:
        self._console.print(Padding(Text(safe(text), style=style), (0, 0, 0, 2 * indent + 1)))

    def working(self, key: Hashable, text: str, total: int | None) -> None:
        self._progress.start()
        text = safe(text)
        if key in self._tasks:
            self._progress.update(self._tasks[key], description=text, total=total, said="")
        else:
            self._tasks[key] = self._progress.add_task(text, total=total, said="")

    def advance(self, key: Hashable, done: int, said: str, time: float) -> None:
        del time
        if key in self._tasks:
            self._progress.update(self._tasks[key], completed=done, said=said)

    def stop(self, key: Hashable) -> None:
        if key in self._tasks:
            self._progress.remove_task(self._tasks.pop(key))

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """For logs and pipes: plain lines, nothing that moves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._about: dict[Hashable, str] = {}
        self._told: dict[Hashable, float] = {}

    def block(self, title: str, body: str, style: str, indent: int, *, form: _Form = "text") -> None:
        del style, form
        self._write(f"[{safe(title)}]", indent)
        for line in safe(body).splitlines():
            self._write(f"  {line}", indent)

    def line(self, text: str, style: str, indent: int) -> None:
        del style
        for line in safe(text).splitlines():
            self._write(line, indent)

    def working(self, key: Hashable, text: str, total: int | None) -> None:
        self._about[key] = text if total is not None else ""

    def advance(self, key: Hashable, done: int, said: str, time: float) -> None:
        """A line for a batch that takes long, each `_LOG_SECONDS`."""
        del done
        if not self._about.get(key):
            return
        if time - self._told.setdefault(key, time) >= _LOG_SECONDS:
            self._told[key] = time
            self._write(safe(f"{self._about[key]}: {said}"), 0)

    def stop(self, key: Hashable) -> None:
        self._about.pop(key, None)
        self._told.pop(key, None)

    def close(self) -> None:
        """Nothing."""

    def _write(self, text: str, indent: int) -> None:
        self._console.file.write(f"{'  ' * indent}{text}\n")
        self._console.file.flush()
