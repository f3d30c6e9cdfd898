"""Read a reply: clean it, remove thoughts, find cells and finish, decide what they mean together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from rlm_adapters.replies.calls import ToolCalls
from rlm_adapters.replies.clean import is_blank, normalise_lines, own_turn
from rlm_adapters.replies.containers import ContainerReader
from rlm_adapters.replies.contents import Contents
from rlm_adapters.replies.finish import FUNCTIONS, Arguments, Cell, Refused
from rlm_adapters.replies.finish_calls import FinishCall, mentioned
from rlm_adapters.replies.mend import mended
from rlm_adapters.replies.messages import repair_message
from rlm_adapters.replies.prose import announces, declines, stated_answer
from rlm_adapters.replies.reading import Problem, Reading, TextFinish
from rlm_adapters.replies.syntax import Syntax, bound_names
from rlm_adapters.replies.thoughts import drop_thoughts
from rlm_adapters.replies.turn import Turn

MAX_CHARS: Final = 1_000_000
"""Length of the longest reply that is read. No model writes more in one turn."""

_CUT_OFF: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "incomplete"})
_FILTERED: Final = frozenset({"content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content"})
_NOTHING_TO_DO: Final = frozenset({"no_code", "unparsable", "empty", "cut_off", "unknown_tool"})
"""Problems that the provider's reason explains better."""


def read_reply(
    text: str | None,
    *,
    names: Collection[str] = (),
    finish_reason: str | None = None,
    refusal: str | None = None,
    tool_calls: Sequence[Mapping[str, Any]] = (),
) -> Reading:
    """Read one raw reply of a root LM. A pure function, which raises for no reply.

    Args:
        text: The reply's text; None if the provider sent none.
        names: Names in the REPL other than ``context`` and its functions: variables, and the user's tools.
        finish_reason: The provider's reason why the reply ended (``stop``, ``length``, ``content_filter``, ...).
        refusal: The provider's refusal text, if it has a separate field.
        tool_calls: Structured tool calls, in LangChain's or OpenAI's form. Some models call a "python" tool although
            none was offered.

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
    """The plain text of a reply without cells and finish, if it may be the answer.

    For a run that would end without an answer. None for code, refusals, plans, questions, and a reply that was cut off
    inside a thought.
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
    """Reads one reply, with the names that exist in the REPL and a parser."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._syntax = Syntax()
        self._calls = ToolCalls(FUNCTIONS | self._names, self._syntax)

    def read(self, text: str, reason: str, tool_calls: Sequence[Mapping[str, Any]]) -> Reading:
        called = self._calls.of(list(tool_calls))
        turn = Turn.of(text)
        called += [cell for name, body in turn.calls for cell in self._calls.named(name, body)]
        found = self._contents(turn, called)
        thought = _joined(*turn.thoughts, found.thought, found.prose)
        reading = self._decide(found, turn.text, thought)
        if reading.repair not in _NOTHING_TO_DO:
            return reading
        return _explained(reading, turn, reason, tool_was_called=bool(tool_calls), has_call=bool(called))

    def _contents(self, turn: Turn, called: Sequence[str]) -> Contents:
        """Step three: the content of the text. Cells of structured calls replace those in the text."""
        found = Contents()
        if not is_blank(turn.text):
            found = ContainerReader(self._names, self._syntax, self._calls).read(turn.text)
        if called:
            found = replace(found, cells=tuple(mended(cell, self._syntax) or cell for cell in called))
        return found

    def _decide(self, found: Contents, text: str, thought: str) -> Reading:
        """Step four: what cells and finish mean together."""
        best = self._best_so_far(found, text)
        finish = self._arguments_after(found.cells).read(found.finish) if found.finish else None
        if isinstance(finish, Cell):
            found, finish = replace(found, cells=(*found.cells, finish.code)), None
        if isinstance(finish, Refused):
            if not found.cells:
                return _repair("bad_final", self._what_is_wrong(finish), best=best, thought=thought)
            note = f"{found.note} Your finish {finish.reason}, so it was ignored.".strip()
            found, finish = replace(found, note=note), None
        if found.cells:
            return _with_cells(found, finish, best, thought)
        if finish is None:
            return _repair(found.problem, found.detail, best=best, thought=thought)
        return _finish_alone(finish, found.finish, thought)

    def _arguments_after(self, cells: Sequence[str]) -> Arguments:
        """A reader of finishes that knows the names which exist after the cells have run."""
        bound: set[str] = set()
        for cell in cells:
            tree = self._syntax.tree(cell)
            bound |= bound_names(tree) if tree is not None else set()
        return Arguments(self._names | bound, self._syntax)

    def _what_is_wrong(self, finish: Refused) -> str:
        names = ", ".join(sorted(self._names)[:30])
        hint = f" These variables exist: {names}." if names else ""
        return f"Your finish {finish.reason}.{hint}"

    def _best_so_far(self, found: Contents, text: str) -> str | None:
        """An answer that does not count as a finish but may be right."""
        said = mentioned(found.prose)
        in_passing = FinishCall("FINAL", said, "", 0) if said else None
        for call in (found.refused, in_passing):
            read = Arguments(self._names, self._syntax).read(call) if call else None
            if isinstance(read, TextFinish) and read.kind == "text":
                return read.text
        return None if found.cells else stated_answer(text, found.prose)


def _with_cells(found: Contents, finish: TextFinish | None, best: str | None, thought: str) -> Reading:
    """Cells to run. A finish in the same reply counts only after they have run."""
    if finish is None:
        return Reading("code", found.cells, message=found.note, best_so_far=best, thought=thought)
    if finish.kind == "text":
        finish, best = replace(finish, provisional=True), finish.text
    return Reading("code_then_final", found.cells, finish, message=found.note, best_so_far=best, thought=thought)


def _finish_alone(finish: TextFinish, call: FinishCall | None, thought: str) -> Reading:
    """A finish without cells. An expression is run as a cell that submits it."""
    if finish.kind == "text":
        return Reading("final_text", final=finish, thought=thought)
    if finish.kind == "expression" and call and call.function != "FINAL_VAR":
        return Reading("code", (f"FINAL({call.argument.strip()})",), thought=thought)
    return Reading("final_var", final=finish, thought=thought)


def _explained(reading: Reading, turn: Turn, reason: str, *, tool_was_called: bool, has_call: bool) -> Reading:
    """A reply that cannot be used, with the best explanation: the provider's reason, if there is one."""
    best, thought = reading.best_so_far, reading.thought
    if reason in _CUT_OFF:
        return _repair("cut_off", best=best, thought=thought)
    if reason in _FILTERED or (reading.repair == "no_code" and declines(turn.text)):
        return _repair("refusal", best=best, thought=thought)
    if turn.unclosed:
        return _repair("unclosed_thought", thought=thought)
    if not is_blank(turn.text) or has_call:
        return reading
    if tool_was_called:
        return _repair("unknown_tool", "That tool does not exist here.", thought=thought)
    detail = "Your reply held a thought and nothing else." if turn.only_thought else ""
    return _repair("empty", detail, thought=thought)


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())
