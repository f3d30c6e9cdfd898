"""What a run did, as one object: from its events, its trace, or its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from rlm_adapters.errors import InputError
from rlm_adapters.events import Event
from rlm_adapters.traces.build import Builder
from rlm_adapters.traces.difference import Difference, difference_of
from rlm_adapters.traces.outline import outline_of
from rlm_adapters.traces.page import page_of
from rlm_adapters.traces.plain import FORM, from_plain_dict, to_plain_dict
from rlm_adapters.traces.reader import TraceReader
from rlm_adapters.traces.replay import events_of
from rlm_adapters.traces.tree import Run
from rlm_adapters.traces.values import string, text
from rlm_adapters.traces.words import one_line
from rlm_adapters.views.console import ConsoleView
from rlm_adapters.views.outline import outline_html, outline_text
from rlm_adapters.views.page.page import render
from rlm_adapters.views.text import safe

R = TypeVar("R", bound=Run)

_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


@dataclass(slots=True, kw_only=True, repr=False)
class Trajectory(Run):
    """What a run did: its iterations, their cells, the calls of each cell, and child runs.

        trajectory = Trajectory.from_trace("run.jsonl")
        trajectory.show()
        for call in trajectory.calls:
            print(call.model, call.seconds, call.prompt.head)

    Prompts, answers, code and outputs are `Text` objects: ``str(text)`` is the whole text, ``text.head`` its beginning,
    ``text.chars`` its length in characters. Those of a trace are read when they are asked for.
    """

    @classmethod
    def from_events(cls, events: Iterable[Event], run: str | int = -1) -> Self:
        """Make it from what ``on_event`` was called with.

        Args:
            events: of one run or several, in order.
            run: which one: its number, or the beginning of its id. Default: the last one that the user started.

        Raises:
            InputError: there is no such run.
        """
        return _chosen(cls.all_of(events), run, "these events")

    @classmethod
    def from_trace(cls, path: str | os.PathLike[str], run: str | int = -1) -> Self:
        """Make it from the file that ``trace=path`` has written; the run may still go on, or have been killed.

        Args:
            path: of the file.
            run: as for `from_events`.

        Raises:
            InputError: it is no trace, or there is no such run in it.
        """
        return _chosen(cls.all_of(TraceReader(path, texts="lazy")), run, str(path))

    @classmethod
    def from_checkpoint(cls, graph: Any, config: Mapping[str, Any]) -> Self:
        """Make it from a thread that a saver keeps: of a run that has ended, that waits, or that was killed.

        A checkpoint tells less than a trace: no times, no prompts of sub-calls, one text for the outputs of an
        iteration, and the tokens of the run as a whole.

        Args:
            graph: of `create_rlm_graph`, with its saver.
            config: with the ``thread_id``, and a ``checkpoint_id`` for an earlier state.

        Raises:
            InputError: the graph is none of ours, or the thread has no run.
        """
        return cls.from_dict(_rlm_graph(graph).trajectory(config))

    @classmethod
    async def afrom_checkpoint(cls, graph: Any, config: Mapping[str, Any]) -> Self:
        """Async form of `from_checkpoint`, for async savers."""
        return cls.from_dict(await _rlm_graph(graph).atrajectory(config))

    @classmethod
    def all_of(cls, events: Iterable[Event]) -> list[Self]:
        """Make one for each run that the user started, in order."""
        builder = Builder(cls)
        builder.add_all(events)
        return builder.outermost

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave, such as ``message.response_metadata["trajectory"]``.

        Raises:
            InputError: it is no such dict.
        """
        if not isinstance(given, Mapping) or given.get("form") != FORM:
            raise InputError(
                f"not a trajectory: {str(given)[:80]!r}; give what to_dict() gave, as in result['trajectory']"
            )
        made: Self = from_plain_dict(cls, dict(given), cls)
        return made

    def to_dict(self) -> dict[str, Any]:
        """The trajectory as a dict of plain JSON, with all texts."""
        return {"form": FORM, **to_plain_dict(self)}

    def to_messages(self) -> list[dict[str, str]]:
        """The conversation with the root LM as {role, content}, as OpenAI and LangChain take it.

        Where it was recorded it is what the root LM was sent last, and its reply; else the question, the replies, and
        the outputs of their cells.
        """
        last = self.iterations[-1] if self.iterations else None
        sent = [] if last is None else [(string(one.get("role")), str(text(one.get("text")))) for one in last.messages]
        if last is None or not sent or not {role for role, _ in sent} <= _ROLES:
            sent = [("user", str(self.question))]
            for iteration in self.iterations:
                sent += [("assistant", str(text(iteration.reply))), ("user", _told(iteration))]
            return [{"role": role, "content": said} for role, said in sent if said]
        if last.reply is not None:
            sent.append(("assistant", str(last.reply)))
        return [{"role": role, "content": said} for role, said in sent]

    def to_steps(self) -> list[dict[str, str]]:
        """The trajectory as ``dspy.RLM`` gives it: {reasoning, code, output} of each cell."""
        return [
            {
                "reasoning": str(text(cell.reasoning)),
                "code": str(cell.code),
                "output": "\n".join(str(part) for part in (cell.output, cell.error) if part is not None and part.chars),
            }
            for cell in self.cells
        ]

    def to_events(self) -> list[Event]:
        """The events that it can be made from, in order."""
        return events_of(self)

    def to_html(self) -> str:
        """The trajectory as one HTML page that needs nothing else: a timeline, the tree, all texts, search and filters.

        What a cell or a model wrote stands in it as text, never as markup; very long texts by their beginning.
        """
        return render(page_of(self))

    def diff(self, other: Trajectory) -> Difference:
        """Compare it with another run: where they part, and what each took.

            difference = Trajectory.from_trace("a.jsonl").diff(Trajectory.from_trace("b.jsonl"))
            if not difference.same:
                difference.show()

        Args:
            other: the run B; this one is A.

        Returns:
            The first prompt, code, answer or output that differs as ``parting``, figures side by side, ``to_dict()``
            and ``show()``. Times, tokens and run-ahead calls that were given up part no runs.

        Raises:
            InputError: `other` is no trajectory.
        """
        if not isinstance(other, Run):
            raise InputError(f"diff({type(other).__name__}): give another Trajectory")
        return difference_of(self, other)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {safe(one_line(self))}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: an outline that unfolds, without scripts."""
        return outline_html(outline_of(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What IPython shows in a terminal."""
        printer.text(repr(self) if cycle else outline_text(outline_of(self)))

    def show(self) -> None:
        """Show it in the terminal, as it would have been seen while it ran."""
        with ConsoleView() as view:
            for event in self.to_events():
                view.handle(event)


def _rlm_graph(graph: Any) -> Any:
    if not hasattr(graph, "atrajectory"):
        raise InputError(f"graph={type(graph).__name__}: give the graph that create_rlm_graph returned")
    return graph


def _told(iteration: Any) -> str:
    """What the root LM was told of an iteration's cells."""
    if iteration.observation is not None:
        return str(iteration.observation)
    parts = [part for cell in iteration.cells for part in (cell.output, cell.error)]
    return "\n".join(str(part) for part in parts if part is not None and part.chars)


def _chosen(runs: Sequence[R], run: str | int, where: str) -> R:
    """One of several runs."""
    if not runs:
        raise InputError(f"{where} tell of no run")
    if isinstance(run, int):
        if -len(runs) <= run < len(runs):
            return runs[run]
    elif found := [one for one in runs if one.run_id.startswith(run)]:
        return found[0]
    known = ", ".join(one.run_id[:8] for one in runs[-10:])
    raise InputError(
        f"run={run!r}: there are {len(runs)} runs in {where}: {known}; give a number or the begin of an id"
    )
