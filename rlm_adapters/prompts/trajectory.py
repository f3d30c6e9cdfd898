"""What a code writer knows when it writes the next cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class InputInfo:
    """A variable as it is described to the root LM.

    Attributes:
        name: of the variable.
        type: as Python prints it, with its items (``list[str]``).
        size: characters, bytes or items; None for scalars.
        preview: head and tail of the value.
    """

    name: str
    type: str
    size: int | None
    preview: str


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    """A function that cells may call, beyond those that every RLM has.

    Attributes:
        signature: ``name(a, b=...)``.
        doc: what it does, one line.
    """

    signature: str
    doc: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the root LM and what came of it.

    Attributes:
        reply: its text.
        observation: what the root LM was told; empty for the turn that ended the run.
    """

    reply: str
    observation: str


@dataclass(frozen=True, slots=True)
class EarlierQuestion:
    """A question that was answered before in the same session.

    Attributes:
        query: the question, shortened.
        answer: its answer as text, shortened.
        finish_reason: how it ended.
    """

    query: str
    answer: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class CellResult:
    """What a cell gave.

    Attributes:
        stdout: its output, cut to the limit of the run.
        chars: of the output before it was cut.
        error: the traceback; None when it did not fail.
    """

    stdout: str
    chars: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a turn that did not end the run.

    Attributes:
        cells: the cells that were run, in order.
        note: what the root LM is told besides: why its reply or its answer could not be used.
    """

    cells: tuple[CellResult, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Everything that a prompt is made of.

    Attributes:
        query: the question.
        instructions: the caller's own standing instructions (a chat's system message, a signature's).
        inputs: the variables.
        files: names and sizes of files in the workspace.
        tools: the user's tools.
        output: what must be submitted, in words; empty when anything goes.
        turns: so far.
        folded: how many of the first turns are only summarised (compaction).
        iteration: number of the turn to be written, from 1.
        max_iterations: its limit.
        budget: the limits of the run in words, the same from turn to turn.
        balance: what is left of them, in words.
        max_output_chars: of one cell's output.
        sub_calls: whether ``llm_query`` exists.
        children: whether ``rlm_query`` starts RLMs of its own.
        sub_window: characters that a sub-LM's prompt may have; None if unknown.
        models: names of further models that ``llm_query(model=...)`` takes.
        earlier: the last questions that were answered before in this session.
        forgotten: how many there were before those.
        names: what the cells of earlier questions have bound.
    """

    query: str
    instructions: str = ""
    inputs: tuple[InputInfo, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    tools: tuple[FunctionInfo, ...] = ()
    output: str = ""
    turns: tuple[Turn, ...] = ()
    folded: int = 0
    iteration: int = 1
    max_iterations: int = 20
    budget: str = ""
    balance: str = ""
    max_output_chars: int = 10_000
    sub_calls: bool = True
    children: bool = False
    sub_window: int | None = None
    models: tuple[str, ...] = ()
    earlier: tuple[EarlierQuestion, ...] = ()
    forgotten: int = 0
    names: tuple[str, ...] = ()
