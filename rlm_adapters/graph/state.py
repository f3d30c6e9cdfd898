"""State of the graph: small, plain, serialisable.

It has no live objects and no big values. A string of more than about 4 kB is a reference into the content store
(*packed*). Models, ledger, store and workers are in the runtime context. A reference is ``bytes``, and all bytes are
references. JSON has no bytes, so a client that edits a state can write plain values, but no references.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NotRequired, Required, TypeAlias

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict

from rlm_adapters.errors import InputError
from rlm_adapters.graph.growing import Growing, each
from rlm_adapters.graph.tool_results import merge_updates
from rlm_adapters.models.usage import Usage, add_usage, check_usage
from rlm_adapters.values.refs import Packed

FORM: Final = 4
"""Version of the form in which this version saves the state."""
READABLE: Final = frozenset((3, FORM))
"""Forms that this version can continue. A run in another form is refused.

In form 3 each checkpoint has the whole `turns`, `cells` and `answers`. LangGraph uses them as start values.
"""

FinishReason: TypeAlias = Literal[
    "submitted", "text", "direct", "unsubmitted", "max_iterations", "budget", "timeout", "error"
]
"""Why a run ended.

``submitted``: the root LM submitted a value. ``text``: it wrote its answer as text. ``direct``: one direct call
answered a short input. ``unsubmitted``: the root LM did not submit, and the answer is in its last replies.
``max_iterations``, ``budget``, ``timeout``: a limit was reached, and the answer is the best one so far, or None.
``error``: no reply could be used.
"""


PackedText: TypeAlias = str | bytes
"""A `Packed` text."""
Count: TypeAlias = Annotated[int, Field(ge=0)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class RLMInput(TypedDict, total=False):
    """The input of the graph."""

    query: Required[str]
    """The question."""
    context: Any
    """The variable ``context``: text, bytes, a list, JSON values, LangChain Documents, `pathlib.Path` objects of files,
    or a `ContentRef` into the graph's content store. A str is text, never a path."""
    inputs: Mapping[str, Any]
    """Further variables by name, of the same types."""
    files: Mapping[str, Any]
    """Files of the cells' in-memory workspace by name: text, bytes, `pathlib.Path` or `ContentRef`."""
    instructions: str
    """Instructions for the root LM, like those of a system message."""
    described: SkipJsonSchema[bytes]
    """Not for callers: the descriptions of the variables for the prompt. If it exists, the values are packed."""


class RLMOutput(TypedDict):
    """The output of the graph."""

    answer: Any
    """The submitted value (validated if ``output_type`` is set); None if there is none."""
    finish_reason: FinishReason
    usage: Usage
    """Usage of the whole call tree."""
    iterations: int
    """Turns of the root LM of this run."""
    error: str | None
    """The error if ``finish_reason`` is ``error`` or ``unsubmitted``, or the limit that ended the run."""
    updates: NotRequired[dict[str, Any]]
    """Changes of tools inside the loop in the state around the run (``Command(update=...)``), by key."""


class Request(TypedDict):
    """A call that the cell waits for (see `rlm_adapters.sandbox.protocol.types.HostCall`)."""

    id: str
    function: str
    args: list[Any] | bytes
    kwargs: dict[str, Any] | bytes
    ahead: bool


class AnswerRecord(TypedDict, total=False):
    """The answer to a request: a packed value, or a failure."""

    value: Packed
    failure: dict[str, Any]


class CellEntry(TypedDict):
    """A finished cell, with everything for a replay."""

    code: PackedText
    answers: Packed
    """Answers by call id: `AnswerRecord`s of small values, or a reference to JSON with records of stored values."""
    failed: bool
    stdout_sha256: str
    tip: str
    """Hash of this cell and all earlier ones: the position in the journal."""


class CellOutput(TypedDict):
    """The output of a cell of the current turn."""

    stdout: PackedText
    chars: Count
    error: str | None
    replaced: bool
    note: NotRequired[str]
    """A note for the root LM about the cell."""
    refused: NotRequired[bool]
    """Whether the cell was not approved and did not run; ``error`` has the reason."""


class TextAnswer(TypedDict):
    """An answer that the root LM wrote as text; ``value`` has the type of a literal."""

    text: PackedText
    value: Packed
    provisional: bool


class Reply(TypedDict):
    """The root LM's reply of the current turn, after reading (see `rlm_adapters.replies.Reading`)."""

    text: PackedText
    final: TextAnswer | None
    """An answer written as text."""
    problem: str
    """Why the reply could not be used; empty if it could."""
    message: str
    """A message to the root LM about its reply."""
    thought: str
    """The text around the code, cut, for views of the run."""
    written: list[str]
    """`digest` of each cell as the root LM wrote it. A cell may be edited before it runs."""


class Question(TypedDict):
    """A question of the thread, and its inputs."""

    query: PackedText
    after: Count
    """Number of cells that had run before it."""
    epoch: Finite
    """Time of the question, in seconds."""
    variables: dict[str, Packed]
    files: dict[str, Packed]
    described: str
    """Descriptions of the variables for the prompt, as JSON."""
    answer: NotRequired[Any]
    """Answer of an earlier question, packed."""
    finish_reason: NotRequired[str | None]
    """Finish reason of an earlier question; None if it was not finished."""


Questions: TypeAlias = Annotated[list[Question], Field(min_length=1)]
"""The questions of a thread, the current one last."""


class TurnEntry(TypedDict):
    """A finished turn, in the form that the root LM sees."""

    reply: PackedText
    observation: PackedText


class Submission(TypedDict):
    """A value that a cell submitted."""

    function: str
    value: Packed


def is_readable(state: Mapping[str, Any]) -> bool:
    """Whether this version can continue a saved state."""
    form = state.get("form")
    return isinstance(form, int) and form in READABLE


def is_later(state: Mapping[str, Any]) -> bool:
    """Whether a later version of this package has saved it."""
    form = state.get("form")
    return isinstance(form, int) and form > FORM


def append(left: list[Any], right: list[Any] | None) -> list[Any]:
    """Append entries; None starts an empty list."""
    if right is None:
        return []
    if not (isinstance(left, list) and isinstance(right, list)):
        raise InputError("the state of this run was edited, and cannot be used: 'turns' and 'cells' are lists")
    return [*left, *right]


def merge_answers(left: dict[str, AnswerRecord], right: dict[str, AnswerRecord] | None) -> dict[str, AnswerRecord]:
    """Join the answers of parallel `recurse` tasks; None starts an empty dict. Idempotent: ids are deterministic."""
    if right is None:
        return {}
    if not (isinstance(left, dict) and isinstance(right, dict)):
        raise InputError(
            "the state of this run was edited, and cannot be used: 'answers' is a dict of records by call id"
        )
    return {**left, **right}


def granted(left: bool, right: bool | None) -> bool:
    """Whether the rest of the run was approved; None resets it."""
    return right is not None and (left or right)


def count(left: Usage, right: Usage | None) -> Usage:
    """Add up usage; None starts from zero."""
    if right is None:
        return {}
    for figures in (left, right):
        check_usage(figures, -math.inf)  # a single figure may be negative; the sum is checked later
    return add_usage(left, right)


class RLMState(TypedDict, total=False):
    """The whole state. Input and output have separate schemas, so a parent graph sees only these."""

    # given
    query: Required[PackedText]
    context: Any
    inputs: Mapping[str, Any]
    files: Mapping[str, Any]
    instructions: str
    # fixed by `prepare`
    form: int
    run_id: str
    seed: int
    epoch: Finite
    questions: Questions
    variables: dict[str, Packed]
    """The current inputs."""
    described: bytes
    file_sizes: dict[str, Count]
    # the trajectory
    turns: Annotated[list[TurnEntry], Growing(each(append))]
    cells: Annotated[list[CellEntry], Growing(each(append))]
    folded: Count
    names: list[str]
    # the current turn
    reply: Reply | None
    queue: list[PackedText]
    """Unfinished cells of the reply. The first one is running or is the next."""
    pending: list[Request]
    answers: Annotated[dict[str, AnswerRecord], Growing(each(merge_answers))]
    asked: dict[str, Count]
    """Sub-calls of the current cell, and characters of their prompts."""
    outputs: list[CellOutput]
    submitted: Submission | None
    updates: Annotated[dict[str, Any], merge_updates]
    approved: Annotated[bool, granted]
    """Whether a person has approved the rest of the run."""
    # counts
    iterations: Count
    repairs: Count
    usage: Annotated[Usage, count]
    seconds: Annotated[Finite, Field(ge=0)]
    # the end
    candidate: str | None
    """The best answer so far that was not accepted."""
    confirmations: Count
    """How often the candidate was repeated unchanged."""
    stop: str | None
    """The limit that ends the run; None if there is none."""
    answer: Any
    finish_reason: FinishReason | None
    error: str | None


class Remembered(TypedDict):
    """The parts of the state that the next question of a thread uses."""

    questions: Questions
    cells: list[CellEntry]
    names: list[str]
    seed: int
    epoch: Finite


class RecurseInput(TypedDict):
    """The input of a `recurse` task."""

    form: int
    requests: list[Request]
    """One request. Without a checkpointer that saves each answer: all calls of the cell to sub-LMs."""
    run_id: str
    iteration: Count
    variables: dict[str, Packed]
    query: Packed
    batch: NotRequired[int]
    approved: NotRequired[bool]
