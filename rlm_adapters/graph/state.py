"""State of the graph: small, plain, serialisable.

Nothing live and nothing big is in here. A string above about 4 kB is a reference into the content store (*packed*);
models, ledger, store and workers live in the runtime context. A reference is ``bytes``, all bytes are references, and
JSON has none: whoever edits a state through a server can put in plain values, and no reference.
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
"""Version of the state's form: what this version saves."""
READABLE: Final = frozenset((3, FORM))
"""Forms that this version goes on with; a run that was saved in another one is refused.

In form 3 each checkpoint holds `turns`, `cells` and `answers` whole; LangGraph begins with them what grows.
"""

FinishReason: TypeAlias = Literal[
    "submitted", "text", "direct", "unsubmitted", "max_iterations", "budget", "timeout", "error"
]
"""Why a run ended.

The root LM submitted a value, or wrote its answer as text; a short input was answered by one direct call; the root LM
never submitted, and the answer is what its last replies say in plain words; a limit was reached (the answer is then the
best one so far, or None); or the root LM gave nothing usable.
"""


PackedText: TypeAlias = str | bytes
"""A `Packed` text."""
Count: TypeAlias = Annotated[int, Field(ge=0)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class RLMInput(TypedDict, total=False):
    """What the graph takes."""

    query: Required[str]
    """The question."""
    context: Any
    """Becomes the variable ``context``: text, bytes, a list, JSON values, LangChain Documents, `pathlib.Path` objects
    of files, or a `ContentRef` into the graph's content store. A str is text, never a path."""
    inputs: Mapping[str, Any]
    """Further named variables, of the same types."""
    files: Mapping[str, Any]
    """Files of the cells' in-memory workspace: name to text, bytes, `pathlib.Path` or `ContentRef`."""
    instructions: str
    """Standing instructions for the root LM, as a system message would give them."""
    described: SkipJsonSchema[bytes]
    """Not for callers: what the prompt says of each variable; its being there says that the values are packed."""


class RLMOutput(TypedDict):
    """What the graph gives."""

    answer: Any
    """The submitted value (validated when ``output_type`` is set); None when there is none."""
    finish_reason: FinishReason
    usage: Usage
    """Of the whole call tree."""
    iterations: int
    """Turns of the root LM of this run."""
    error: str | None
    """What went wrong when ``finish_reason`` is ``error`` or ``unsubmitted``, or which limit ended the run."""
    updates: NotRequired[dict[str, Any]]
    """What tools inside the loop want to change in the state around the run (``Command(update=...)``), by key."""


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
    """A finished cell: what the journal needs to replay it."""

    code: PackedText
    answers: Packed
    """By call id: `AnswerRecord`s of small values, or a reference to JSON of records that may name stored values."""
    failed: bool
    stdout_sha256: str
    tip: str
    """Hash over this cell and all before it: the position in the journal."""


class CellOutput(TypedDict):
    """What a cell of the current turn gave."""

    stdout: PackedText
    chars: Count
    error: str | None
    replaced: bool
    note: NotRequired[str]
    """What the root LM should know about how the cell worked."""
    refused: NotRequired[bool]
    """It was not approved, and did not run; ``error`` says why."""


class TextAnswer(TypedDict):
    """An answer that the root LM wrote as text; ``value`` is typed."""

    text: PackedText
    value: Packed
    provisional: bool


class Reply(TypedDict):
    """The root LM's reply of the current turn, as read (see `rlm_adapters.replies.Reading`)."""

    text: PackedText
    final: TextAnswer | None
    """An answer written as text."""
    problem: str
    """Why nothing of it could be used; empty when it could."""
    message: str
    """What the root LM is told about its reply."""
    thought: str
    """The text around the code, shortened, for views of the run."""
    written: list[str]
    """`digest` of each cell as the root LM wrote it: what ran may have been edited."""


class Question(TypedDict):
    """A question of the thread, and the inputs that came with it."""

    query: PackedText
    after: Count
    """How many cells had been run when it came."""
    epoch: Finite
    """When it came, in seconds."""
    variables: dict[str, Packed]
    files: dict[str, Packed]
    described: str
    """What the prompt says of the variables, as JSON."""
    answer: NotRequired[Any]
    """Of an earlier question, packed."""
    finish_reason: NotRequired[str | None]
    """Likewise; None when it was not finished."""


Questions: TypeAlias = Annotated[list[Question], Field(min_length=1)]
"""Those of a thread, the current one last."""


class TurnEntry(TypedDict):
    """A finished turn, as the root LM sees it."""

    reply: PackedText
    observation: PackedText


class Submission(TypedDict):
    """What a cell submitted."""

    function: str
    value: Packed


def is_readable(state: Mapping[str, Any]) -> bool:
    """Whether this version goes on with what was saved."""
    form = state.get("form")
    return isinstance(form, int) and form in READABLE


def is_later(state: Mapping[str, Any]) -> bool:
    """Whether a later version of this package has saved it."""
    form = state.get("form")
    return isinstance(form, int) and form > FORM


def append(left: list[Any], right: list[Any] | None) -> list[Any]:
    """Entries after those that are there; None begins anew."""
    if right is None:
        return []
    if not (isinstance(left, list) and isinstance(right, list)):
        raise InputError("the state of this run was edited, and cannot be used: 'turns' and 'cells' are lists")
    return [*left, *right]


def merge_answers(left: dict[str, AnswerRecord], right: dict[str, AnswerRecord] | None) -> dict[str, AnswerRecord]:
    """Answers of parallel `recurse` tasks, joined; None begins anew. Idempotent, since ids are deterministic."""
    if right is None:
        return {}
    if not (isinstance(left, dict) and isinstance(right, dict)):
        raise InputError(
            "the state of this run was edited, and cannot be used: 'answers' is a dict of records by call id"
        )
    return {**left, **right}


def granted(left: bool, right: bool | None) -> bool:
    """Whether the rest of the run was approved; None begins anew."""
    return right is not None and (left or right)


def count(left: Usage, right: Usage | None) -> Usage:
    """Figures added up; None begins anew."""
    if right is None:
        return {}
    for figures in (left, right):
        check_usage(figures, -math.inf)  # a figure may be taken back, the sum is looked at later
    return add_usage(left, right)


class RLMState(TypedDict, total=False):
    """The whole state. Input and output have schemas of their own, so a parent graph sees nothing of the rest."""

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
    """The inputs that count now."""
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
    """Cells of the reply that have not finished; the first one is running or next."""
    pending: list[Request]
    answers: Annotated[dict[str, AnswerRecord], Growing(each(merge_answers))]
    asked: dict[str, Count]
    """Sub-calls of the cell in progress and characters of their prompts."""
    outputs: list[CellOutput]
    submitted: Submission | None
    updates: Annotated[dict[str, Any], merge_updates]
    approved: Annotated[bool, granted]
    """A person has approved the rest of the run."""
    # counts
    iterations: Count
    repairs: Count
    usage: Annotated[Usage, count]
    seconds: Annotated[Finite, Field(ge=0)]
    # the end
    candidate: str | None
    """The best answer noted on the way that was not accepted."""
    confirmations: Count
    """How often it was stated again, unchanged."""
    stop: str | None
    """The limit that ends the run, None while it goes on."""
    answer: Any
    finish_reason: FinishReason | None
    error: str | None


class Remembered(TypedDict):
    """What the next question of a thread takes over from the ones before."""

    questions: Questions
    cells: list[CellEntry]
    names: list[str]
    seed: int
    epoch: Finite


class RecurseInput(TypedDict):
    """What a `recurse` task is sent."""

    form: int
    requests: list[Request]
    """One; or, where no saver keeps the answers one by one, all of the cell's calls to sub-LMs."""
    run_id: str
    iteration: Count
    variables: dict[str, Packed]
    query: Packed
    batch: NotRequired[int]
    approved: NotRequired[bool]
