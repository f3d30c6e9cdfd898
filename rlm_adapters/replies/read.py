"""The reading order: clean, drop thoughts, find the moves, decide what they mean together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from rlm_adapters.replies.calls import ToolCalls
from rlm_adapters.replies.clean import is_blank, normalise_lines, own_turn
from rlm_adapters.replies.finish import FUNCTIONS, Arguments, Cell, Refused
from rlm_adapters.replies.harmony import split_harmony
from rlm_adapters.replies.marks import Mark, Marks, mentioned
from rlm_adapters.replies.mend import mended
from rlm_adapters.replies.messages import repair_message
from rlm_adapters.replies.moves import MoveFinder, Moves
from rlm_adapters.replies.prose import announces, declines, stated_answer, without_answer_tag
from rlm_adapters.replies.reading import Problem, Reading, TextFinish
from rlm_adapters.replies.syntax import Syntax, bound_names
from rlm_adapters.replies.thoughts import drop_thoughts

MAX_CHARS: Final = 1_000_000
"""Longest reply that is read; no model writes as much in one turn."""

_CUT_OFF: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "incomplete"})
_FILTERED: Final = frozenset({"content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content"})
_NOTHING_TO_DO: Final = frozenset({"no_code", "unparsable", "empty", "cut_off", "unknown_tool"})
"""Problems for which the provider's reason is the better explanation."""


def read_reply(
    text: str | None,
    *,
    names: Collection[str] = (),
    finish_reason: str | None = None,
    refusal: str | None = None,
    tool_calls: Sequence[Mapping[str, Any]] = (),
) -> Reading:
    """Read one raw reply of a root LM. Pure; never raises on what a model wrote.

    Args:
        text: The reply's text; None when the provider sent none.
        names: Names that exist in the REPL beside ``context`` and its functions: variables, and the user's tools.
        finish_reason: The provider's reason why the reply ended (``stop``, ``length``, ``content_filter``, ...).
        refusal: The provider's refusal text, where it has a field of its own.
        tool_calls: Structured tool calls, for models that call a "python" tool though none was offered (LangChain's or
            OpenAI's shape).

    Returns:
        What to do: see :class:`Reading`.
    """
    reason = (finish_reason or "").lower()
    if refusal:
        return _repair("refusal")
    if text is not None and len(text) > MAX_CHARS:
        return _repair("too_long")
    reader = _Reader(names)
    return reader.read(normalise_lines(text or ""), reason, tool_calls)


def plain_answer(text: str) -> str | None:
    """What a reply that nothing can be done with says in plain words, when that may be the answer itself.

    For a run that would end without any answer. None for code, refusals, plans, questions, and what was cut off inside
    a thought.
    """
    reading = read_reply(text)
    if reading.kind != "repair" or reading.repair != "no_code":
        return None
    said = own_turn(drop_thoughts(own_turn(normalise_lines(text))).text).strip()
    return None if not said or "```" in said or announces(said) else said


def _repair(problem: Problem, detail: str = "", *, best: str | None = None, thought: str = "") -> Reading:
    message = repair_message(problem, detail)
    return Reading("repair", repair=problem, message=message, best_so_far=best, thought=thought)


class _Reader:
    """One reading: the names that exist, and a parser with its bounds."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._syntax = Syntax()
        self._calls = ToolCalls(FUNCTIONS | self._names, self._syntax)

    def read(self, text: str, reason: str, tool_calls: Sequence[Mapping[str, Any]]) -> Reading:
        called = tuple(self._calls.of(list(tool_calls)))
        thoughts: list[str] = []
        harmony = split_harmony(text)
        if harmony is not None:
            thoughts.append(harmony.thought)
            text = harmony.text
            called += tuple(cell for name, body in harmony.calls for cell in self._calls.named(name, body))
        blank = is_blank(text)
        whole, spoken = text, drop_thoughts(own_turn(text))
        thoughts.append(spoken.thought)
        text = own_turn(spoken.text)
        if is_blank(text) and not spoken.unclosed:  # the turn's opening mark stood behind the thought
            text = own_turn(drop_thoughts(whole).text)
        inner = without_answer_tag(text)
        text = inner if Marks(inner).opens(0) else text
        found = MoveFinder(self._names, self._syntax, self._calls).find(text) if not is_blank(text) else Moves()
        if called:
            cells = tuple(mended(cell, self._syntax) or cell for cell in called)
            found = replace(found, cells=cells)
        thoughts += [found.thought, found.prose]
        thought = "\n\n".join(part.strip() for part in thoughts if part.strip())
        reading = self._decide(found, text, thought)
        if reading.repair not in _NOTHING_TO_DO:
            return reading
        best = reading.best_so_far
        if reason in _CUT_OFF:
            return _repair("cut_off", best=best, thought=thought)
        if reason in _FILTERED or (reading.repair == "no_code" and declines(text)):
            return _repair("refusal", best=best, thought=thought)
        if spoken.unclosed:
            return _repair("unclosed_thought", thought=thought)
        if is_blank(text) and not called:
            detail = "" if blank else "Your reply held a thought and nothing else."
            detail = "That tool does not exist here." if tool_calls else detail
            return _repair("unknown_tool" if tool_calls else "empty", detail, thought=thought)
        return reading

    def _decide(self, found: Moves, text: str, thought: str) -> Reading:
        bound: set[str] = set()
        for cell in found.cells:
            tree = self._syntax.tree(cell)
            bound |= bound_names(tree) if tree is not None else set()
        best = self._best_so_far(found, text)
        arguments = Arguments(self._names | bound, self._syntax)
        finish = arguments.read(found.mark) if found.mark else None
        cells, note = found.cells, found.note
        if isinstance(finish, Cell):
            cells, finish = (*cells, finish.code), None
        if isinstance(finish, Refused):
            if not cells:
                names = ", ".join(sorted(self._names)[:30])
                hint = f" These variables exist: {names}." if names else ""
                detail = f"Your finish {finish.reason}.{hint}"
                return _repair("bad_final", detail, best=best, thought=thought)
            note = f"{note} Your finish {finish.reason}, so it was ignored.".strip()
            finish = None
        if cells:
            if finish is None:
                return Reading("code", cells, message=note, best_so_far=best, thought=thought)
            if finish.kind == "text":
                finish = TextFinish("text", finish.text, finish.literal, provisional=True)
                best = finish.text
            return Reading("code_then_final", cells, finish, message=note, best_so_far=best, thought=thought)
        if finish is None:
            return _repair(found.problem, found.detail, best=best, thought=thought)
        if finish.kind == "text":
            return Reading("final_text", final=finish, thought=thought)
        if finish.kind == "expression" and found.mark and found.mark.function != "FINAL_VAR":
            return Reading("code", (f"FINAL({found.mark.argument.strip()})",), thought=thought)
        return Reading("final_var", final=finish, thought=thought)

    def _best_so_far(self, found: Moves, text: str) -> str | None:
        if found.refused:
            refused = Arguments(self._names, self._syntax).read(found.refused)
            if isinstance(refused, TextFinish) and refused.kind == "text":
                return refused.text
        argument = mentioned(found.prose)
        if argument is not None:
            read = Arguments(self._names, self._syntax).read(Mark("FINAL", argument, "", 0))
            if isinstance(read, TextFinish) and read.kind == "text":
                return read.text
        if found.cells:
            return None
        return stated_answer(text, found.prose)
