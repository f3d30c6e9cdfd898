"""`Trajectory`: what a code writer knows when it writes the next cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class InputInfo:
    """The description of a variable for the root LM.

    Attributes:
        name: name of the variable.
        type: type as Python prints it, with the type of its items (``list[str]``).
        size: characters, bytes or items; None for scalars.
        preview: head and tail of the value.
    """

    name: str
    type: str
    size: int | None
    preview: str


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    """A function that cells can call, in addition to those of every RLM.

    Attributes:
        signature: ``name(a, b=...)``.
        doc: what it does, in one line.
    """

    signature: str
    doc: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the root LM and its result.

    Attributes:
        reply: its text.
        observation: what the root LM saw of it; empty for the turn that ended the run.
    """

    reply: str
    observation: str


@dataclass(frozen=True, slots=True)
class EarlierQuestion:
    """A question that was answered before in the same session.

    Attributes:
        query: the question, cut.
        answer: its answer as text, cut.
        finish_reason: how it ended.
    """

    query: str
    answer: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class CellResult:
    """The result of a cell.

    Attributes:
        stdout: its output, cut to the limit of the run.
        chars: length of the output before it was cut.
        error: the traceback; None if it did not fail.
    """

    stdout: str
    chars: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a turn that did not end the run.

    Attributes:
        cells: the cells that were run, in order.
        note: further text for the root LM: why its reply or its answer could not be used.
    """

    cells: tuple[CellResult, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Everything that a prompt is made of.

    Attributes:
        query: the question.
        instructions: the caller's instructions (system message of a chat, instructions of a signature).
        inputs: the variables.
        files: names and sizes of files in the workspace.
        tools: the user's tools.
        output: the expected answer in words; empty if any answer is accepted.
        turns: the turns so far.
        folded: number of first turns that are folded.
        iteration: number of the next turn, from 1.
        max_iterations: its limit.
        budget: the limits of the run in words; the same in every turn.
        balance: what is left of the limits, in words.
        max_output_chars: characters of one cell's output.
        sub_calls: whether ``llm_query`` exists.
        children: whether ``rlm_query`` starts child RLMs.
        sub_window: largest prompt of a sub-LM, in characters; None if unknown.
        models: names of further models for ``llm_query(model=...)``.
        earlier: the last earlier questions of this session, with answers.
        forgotten: number of questions before those.
        names: names that the cells of earlier questions have defined.
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
