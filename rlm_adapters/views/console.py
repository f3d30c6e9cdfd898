"""Live view of a trajectory in the terminal: cells, their output, sub-calls, the answer, time, tokens and cost.

A view reads events: ``create_rlm_graph(..., on_event=view.handle)``. On a terminal it draws panels and a progress line.
Elsewhere it writes plain lines, for example for a log file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from rich.console import Console

from rlm_adapters.events import Event
from rlm_adapters.views.screens import Form, Lines, Panels, Screen
from rlm_adapters.views.text import (
    answer_text,
    call_figures,
    clipped,
    clock,
    describe_input,
    describe_usage,
    first_words,
    model_calls,
    number_of,
    safe,
)

ANSWERED: Final = frozenset({"submitted", "text"})
"""Finish reasons with which the model itself gave the answer."""

_FIRST_PACE: Final = 1.0
"""Seconds after which a rate is shown."""


class ConsoleView:
    """Shows the events of one run and its children. Thread-safe.

    Args:
        console: where to draw; None: standard error, so that standard output has only the answer.
        show_answer: False if the caller prints the answer.
        verbose: also show models and limits, time and tokens of each reply, and a line for each sub-call.
    """

    def __init__(self, console: Console | None = None, *, show_answer: bool = True, verbose: bool = False) -> None:
        console = console or Console(stderr=True)
        self._screen: Screen = Panels(console) if console.is_terminal else Lines(console)
        self._show_answer = show_answer
        self._verbose = verbose
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the progress line from the screen."""
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
        inputs = "\n".join(describe_input(item) for item in data.get("inputs") or ())
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
        """Shows time and tokens if ``verbose``; the effect of the reply is shown by other events."""
        if self._verbose:
            told = call_figures(event.data)
            self._screen.line(run.title(f"root LM {safe(str(event.data.get('model', '')))}: {told}"), "dim", run.depth)

    def _call_started(self, event: Event, run: _Run) -> None:
        """Calls are counted together; if ``verbose``, each call has a line when it is answered."""
        if self._verbose:
            run.prompts[event.id or ""] = first_words(event.data.get("prompt"))

    def _limit(self, event: Event, run: _Run) -> None:
        """Shows nothing: the end of the run names the limit."""

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
        # A single call does not tell how many will follow.
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
            line = f"{name}, {call_figures(data)}: {prompt} -> {first_words(said or data.get('answer'))}"
            self._screen.line(run.title(line), "red" if said else "dim", run.depth)
        self._screen.advance(event.run_id, run.calls.done, run.calls.pace(event.time), event.time)

    def _child_started(self, event: Event, run: _Run) -> None:
        """Shows nothing: the first event of the child shows its question."""

    def _sum_up_retries(self, run: _Run) -> None:
        for (model, kind), count in run.retries.items():
            if count > 1:  # the first retry was shown when it was made
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
            title = run.title(f"reply {event.iteration}: nothing in it can be run")
            self._screen.block(title, clipped(safe(reply)), "yellow", run.depth)
        self._screen.line(f"asked again ({reason}): {message}", "yellow", run.depth)

    def _final(self, event: Event, run: _Run) -> None:
        if run.depth or self._show_answer:
            self._show(event.data.get("answer"), "bold green", run)
            run.answered = True

    def _show(self, answer: object, style: str, run: _Run) -> None:
        form: Form = "markdown" if isinstance(answer, str) else "text"
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
            parts.append(number_of(data["iterations"], "iteration"))
        parts.append(describe_usage(data.get("usage") or {}))
        if data.get("seconds") is not None:
            parts.append(f"{data['seconds']:.1f} s")
        self._screen.line(" | ".join(parts), "dim" if reason in ANSWERED else "yellow", run.depth)


@dataclass(slots=True)
class _Calls:
    """The sub-calls of the current cell, added up over its waves."""

    total: int = 0
    done: int = 0
    failed: int = 0
    tokens: int = 0
    error: str = ""
    names: dict[str, int] = field(default_factory=dict)
    began: float | None = None
    """Seconds since the epoch."""
    counted: bool = False
    """Whether the number of calls is known."""

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
        """Number of answered calls, the rate per second, and the time left at this rate."""
        if not self.counted:
            return f"{self.done:,} done" if self.done else ""
        count = f"{self.done:,}/{self.total:,}"
        passed = time - (self.began if self.began is not None else time)
        if not self.done or passed < _FIRST_PACE:
            return count
        rate, left = self.done / passed, self.total - self.done
        often = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        return f"{count} {often}, {clock(left / rate)} left" if left > 0 else f"{count} {often}"

    def describe(self) -> str:
        parts = [number_of(count, f"{name} call") for name, count in self.names.items()]
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
    """Beginnings of the prompts of calls in flight, by id."""
    retries: dict[tuple[str, str], int] = field(default_factory=dict)
    """Number of retries since the last turn, by model and kind of failure."""

    def title(self, text: str) -> str:
        return f"{self.label}: {text}" if self.label else text
