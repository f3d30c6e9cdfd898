"""`Trajectory`: the steps of a run as one object, made from its events, its trace or its checkpoint."""

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
    """The steps of a run: its iterations, their cells, the calls of each cell, and child runs.

        trajectory = Trajectory.from_trace("run.jsonl")
        trajectory.show()
        for call in trajectory.calls:
            print(call.model, call.seconds, call.prompt.head)

    Prompts, answers, code and outputs are `Text` objects: ``str(text)`` is the whole text, ``text.head`` its beginning,
    ``text.chars`` its length in characters. The texts of a trace are read only when you ask for them.
    """

    @classmethod
    def from_events(cls, events: Iterable[Event], run: str | int = -1) -> Self:
        """Make a trajectory from the events that ``on_event`` got.

        Args:
            events: events of one or several runs, in order.
            run: number of the run, or the beginning of its id. Default: the last run that the user started.

        Raises:
            InputError: there is no such run.
        """
        return _chosen(cls.all_of(events), run, "these events")

    @classmethod
    def from_trace(cls, path: str | os.PathLike[str], run: str | int = -1) -> Self:
        """Make a trajectory from the file that ``trace=path`` wrote. The run may still be running, or was killed.

        Args:
            path: of the file.
            run: as for `from_events`.

        Raises:
            InputError: the file is not a trace, or it has no such run.
        """
        return _chosen(cls.all_of(TraceReader(path, texts="lazy")), run, str(path))

    @classmethod
    def from_checkpoint(cls, graph: Any, config: Mapping[str, Any]) -> Self:
        """Make a trajectory from a saved thread. Its run may have ended, may be waiting, or may have been killed.

        A checkpoint has less than a trace: no times, no prompts of sub-calls, one text for all outputs of an
        iteration, and only the total tokens of the run.

        Args:
            graph: a graph of `create_rlm_graph`, with its checkpointer.
            config: with the ``thread_id``, and a ``checkpoint_id`` for an earlier state.

        Raises:
            InputError: ``create_rlm_graph`` did not make the graph, or the thread has no run.
        """
        return cls.from_dict(_rlm_graph(graph).trajectory(config))

    @classmethod
    async def afrom_checkpoint(cls, graph: Any, config: Mapping[str, Any]) -> Self:
        """Async form of `from_checkpoint`, for async checkpointers."""
        return cls.from_dict(await _rlm_graph(graph).atrajectory(config))

    @classmethod
    def all_of(cls, events: Iterable[Event]) -> list[Self]:
        """Make a trajectory of each run that the user started, in order."""
        builder = Builder(cls)
        builder.add_all(events)
        return builder.outermost

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Make a trajectory from a dict of `to_dict`, such as ``message.response_metadata["trajectory"]``.

        Raises:
            InputError: it is not such a dict.
        """
        if not isinstance(given, Mapping) or given.get("form") != FORM:
            raise InputError(
                f"not a trajectory: {str(given)[:80]!r}; give what to_dict() returned, such as result['trajectory']"
            )
        made: Self = from_plain_dict(cls, dict(given), cls)
        return made

    def to_dict(self) -> dict[str, Any]:
        """The trajectory as a dict of plain JSON, with all texts."""
        return {"form": FORM, **to_plain_dict(self)}

    def to_messages(self) -> list[dict[str, str]]:
        """The conversation with the root LM as {role, content}, the form of OpenAI and LangChain.

        If the messages were recorded, it is the last prompt of the root LM and its reply. Otherwise it is the question,
        the replies, and the outputs of their cells.
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
        """The trajectory in the form of ``dspy.RLM``: {reasoning, code, output} of each cell."""
        return [
            {
                "reasoning": str(text(cell.reasoning)),
                "code": str(cell.code),
                "output": "\n".join(str(part) for part in (cell.output, cell.error) if part is not None and part.chars),
            }
            for cell in self.cells
        ]

    def to_events(self) -> list[Event]:
        """Events from which the same trajectory can be made, in order."""
        return events_of(self)

    def to_html(self) -> str:
        """The trajectory as one HTML page without other files: a timeline, the tree, all texts, search and filters.

        Texts of cells and models are shown as text, never as markup. Of very long texts it has only the beginning.
        """
        return render(page_of(self))

    def diff(self, other: Trajectory) -> Difference:
        """Compare this run with another one: where they differ, and the time, tokens and cost of each.

            difference = Trajectory.from_trace("a.jsonl").diff(Trajectory.from_trace("b.jsonl"))
            if not difference.same:
                difference.show()

        Args:
            other: run B. This run is A.

        Returns:
            A `Difference`. ``parting`` is the first prompt, code, answer or output that differs, ``figures`` are the
            numbers of both runs. Times, tokens and dropped calls of run-ahead do not count as differences.

        Raises:
            InputError: `other` is not a trajectory.
        """
        if not isinstance(other, Run):
            raise InputError(f"diff({type(other).__name__}): give another Trajectory")
        return difference_of(self, other)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {safe(one_line(self))}>"

    def _repr_html_(self) -> str:
        """The outline that a notebook shows, without scripts."""
        return outline_html(outline_of(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The text that IPython shows in a terminal."""
        printer.text(repr(self) if cycle else outline_text(outline_of(self)))

    def show(self) -> None:
        """Show the run in the terminal, as the live view shows it."""
        with ConsoleView() as view:
            for event in self.to_events():
                view.handle(event)


def _rlm_graph(graph: Any) -> Any:
    if not hasattr(graph, "atrajectory"):
        raise InputError(f"graph={type(graph).__name__}: give the graph that create_rlm_graph returned")
    return graph


def _told(iteration: Any) -> str:
    """The output of an iteration's cells, as the root LM saw it."""
    if iteration.observation is not None:
        return str(iteration.observation)
    parts = [part for cell in iteration.cells for part in (cell.output, cell.error)]
    return "\n".join(str(part) for part in parts if part is not None and part.chars)


def _chosen(runs: Sequence[R], run: str | int, where: str) -> R:
    """One of several runs."""
    if not runs:
        raise InputError(f"there is no run in {where}")
    if isinstance(run, int):
        if -len(runs) <= run < len(runs):
            return runs[run]
    elif found := [one for one in runs if one.run_id.startswith(run)]:
        return found[0]
    known = ", ".join(one.run_id[:8] for one in runs[-10:])
    raise InputError(
        f"run={run!r}: there are {len(runs)} runs in {where}: {known}; give a number, or the beginning of an id"
    )
