"""Find where two runs differ: the first prompt, code, answer or output that is not the same in both."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, Literal, TypeAlias, TypeVar

from rlm_adapters.traces.content import Text, digested
from rlm_adapters.traces.tree import Call, Cell, Iteration, Run
from rlm_adapters.traces.values import string, text

What: TypeAlias = Literal[
    "question", "inputs", "prompt", "reply", "code", "answer", "output", "error", "end", "missing"
]
"""What differs. ``missing``: only one of the runs has it; ``end``: the finish reason."""

_BEFORE: Final = 200
"""Characters of an excerpt before the first difference."""
_AFTER: Final = 1_000
_CHUNK: Final = 4_096
_NOTHING: Final = Text.of("")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """A place where two runs differ."""

    what: What
    where: tuple[str, ...]
    """The place, from the outside in, such as ``("iteration 2", "cell 1", "call 3")``; empty: the run itself."""
    iteration: int | None
    """Index of the iteration of the outermost run, from 0; None: not in an iteration."""
    a: str
    """The text of the first run, around the first different character."""
    b: str
    at: int = 0
    """Number of equal characters before the difference."""
    begin: int = 0
    """Position of the excerpts `a` and `b` in the whole texts."""
    a_chars: int = 0
    """Length of the whole text."""
    b_chars: int = 0

    @property
    def place(self) -> str:
        """The place as text."""
        return ", ".join(self.where) or "the run"


def partings(a: Run, b: Run) -> Iterator[Parting]:
    """The places where two runs differ, in order. Each is found when the iterator reaches it."""
    return _of_runs(a, b, (), None)


def partings_of_iterations(a: Iteration, b: Iteration) -> Iterator[Parting]:
    """The same for two iterations. First what happened in them, then the prompt of the root LM."""
    place: tuple[str, ...] = (_name(a),)
    yield from _of_replies(a, b, place, None)
    yield from _of_prompts(a, b, place, None)


def _of_runs(a: Run, b: Run, place: tuple[str, ...], number: int | None) -> Iterator[Parting]:
    yield from _of_texts("question", place, number, a.question, b.question)
    yield from _of_texts("inputs", place, number, text(_json(a.inputs)), text(_json(b.inputs)))
    for index, (one, other) in enumerate(zip_longest(a.iterations, b.iterations)):
        outer = index if number is None else number
        here = (*place, _name(one or other))
        if one is None or other is None:
            yield _missing(here, outer, one is None, (one or other).reply)
            return
        yield from _of_prompts(one, other, here, outer)
        yield from _of_replies(one, other, here, outer)
    yield from _of_texts("answer", place, number, _answer(a), _answer(b))
    yield from _of_texts("end", place, number, text(a.finish_reason or "running"), text(b.finish_reason or "running"))


def _of_prompts(a: Iteration, b: Iteration, place: tuple[str, ...], number: int | None) -> Iterator[Parting]:
    if not a.messages or not b.messages:  # a checkpoint has none
        return
    for one, other in zip_longest(a.messages, b.messages):
        said, told = (_NOTHING if given is None else text(given.get("text")) for given in (one, other))
        found = [*_of_texts("prompt", (*place, string((one or other).get("role"))), number, said, told)]
        if found:
            yield found[0]
            return  # those after it follow from it


def _of_replies(a: Iteration, b: Iteration, place: tuple[str, ...], number: int | None) -> Iterator[Parting]:
    same_code = len(a.cells) == len(b.cells) and all(
        _same(one.code, other.code) for one, other in zip(a.cells, b.cells, strict=True)
    )
    if same_code:
        yield from _of_texts("reply", place, number, a.reply, b.reply)
    yield from _of_texts("error", place, number, text(a.error), text(b.error))
    for index, (one, other) in enumerate(zip_longest(a.cells, b.cells)):
        here = (*place, f"cell {index + 1}")
        if one is None or other is None:
            yield _missing(here, number, one is None, (one or other).code)
            return
        yield from _of_cells(one, other, here, number)
    yield from _of_texts("output", place, number, a.observation, b.observation)


def _of_cells(a: Cell, b: Cell, place: tuple[str, ...], number: int | None) -> Iterator[Parting]:
    yield from _of_texts("code", place, number, a.code, b.code)
    for index, one, other in _paired(_asked(a), _asked(b)):
        call = one or other
        assert call is not None
        here = (*place, " ".join(filter(None, (f"call {index + 1}", call.function and f"({call.function})"))))
        if one is None or other is None:
            yield _missing(here, number, one is None, call.prompt)
            continue
        yield from _of_texts("prompt", here, number, one.prompt, other.prompt)
        if one.child is not None and other.child is not None:
            yield from _of_runs(one.child, other.child, here, number)
        yield from _of_texts("error", here, number, text(one.error), text(other.error))
        yield from _of_texts("answer", here, number, one.answer, other.answer)
    yield from _of_texts("output", place, number, a.output, b.output)
    yield from _of_texts("error", place, number, a.error, b.error)


def _asked(cell: Cell) -> list[Call]:
    """The calls of a cell, without those that run-ahead dropped: which of them it drops is random."""
    return [call for call in cell.calls if call.dropped is None]


def _paired(a: Sequence[Call], b: Sequence[Call]) -> Iterator[tuple[int, Call | None, Call | None]]:
    """Pair the calls of two cells: first those with the same prompt, in any order, then the rest in order.

    Yields:
        Index of the call, the call of the first cell, the call of the second cell.
    """
    places: dict[tuple[str, object], deque[int]] = defaultdict(deque)
    for index, call in enumerate(b):
        places[call.function, _key(call.prompt)].append(index)
    partner: dict[int, int] = {}
    for index, call in enumerate(a):
        if known := places[call.function, _key(call.prompt)]:
            partner[index] = known.popleft()
    taken = set(partner.values())
    rest = deque(index for index in range(len(b)) if index not in taken)
    for index, call in enumerate(a):
        other = partner.get(index, rest.popleft() if index not in partner and rest else None)
        yield index, call, None if other is None else b[other]
    for index in rest:
        yield index, None, b[index]


def _of_texts(
    what: What, place: tuple[str, ...], number: int | None, a: Text | None, b: Text | None
) -> Iterator[Parting]:
    """The difference of two texts, if there is one."""
    one, other = a or _NOTHING, b or _NOTHING
    if _same(one, other):
        return
    said, told = str(one), str(other)
    at = _common(said, told)
    begin = max(said.rfind("\n", 0, at) + 1, at - _BEFORE, 0)
    yield Parting(
        what=what,
        where=place,
        iteration=number,
        a=said[begin : at + _AFTER],
        b=told[begin : at + _AFTER],
        at=at,
        begin=begin,
        a_chars=one.chars,
        b_chars=other.chars,
    )


def _missing(place: tuple[str, ...], number: int | None, in_a: bool, there: Text | None) -> Parting:
    said = there or _NOTHING
    head = str(said)[:_AFTER]
    return Parting(
        what="missing",
        where=place,
        iteration=number,
        a="" if in_a else head,
        b=head if in_a else "",
        a_chars=0 if in_a else said.chars,
        b_chars=said.chars if in_a else 0,
    )


def _same(a: Text, b: Text) -> bool:
    return a.chars == b.chars and _key(a) == _key(b)


def _key(one: Text) -> object:
    """A key that is equal if two texts are equal. A long text of a trace is not read for it."""
    if one.sha256:
        return one.sha256
    return digested(one.head)[0] if len(one.head) >= one.chars else (one.head, one.chars)


def _common(a: str, b: str) -> int:
    """Length of the common prefix of two texts."""
    at = 0
    while a[at : at + _CHUNK] == b[at : at + _CHUNK] and at < min(len(a), len(b)):
        at += _CHUNK
    end = min(len(a), len(b))
    while at < end and a[at] == b[at]:
        at += 1
    return min(at, end)


def _name(iteration: Iteration) -> str:
    return "the last answer" if iteration.number is None else f"iteration {iteration.number}"


def _answer(run: Run) -> Text:
    return text(run.answer if run.answer is None or isinstance(run.answer, str) else _json(run.answer))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)
