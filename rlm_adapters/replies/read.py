"""The reading order: clean, drop thoughts, find the container, decide what runs and whether it finishes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rlm_adapters.replies.bare import bare_code, react_action
from rlm_adapters.replies.blocks import ROLE_LINE, Block, Fence, Region, Scan, Scanner
from rlm_adapters.replies.calls import ToolCalls, whole_json
from rlm_adapters.replies.clean import is_blank, normalise_lines, own_turn
from rlm_adapters.replies.finish import FUNCTIONS, Arguments, Cell, Refused
from rlm_adapters.replies.harmony import split_harmony
from rlm_adapters.replies.marks import Mark, Marks, mentioned
from rlm_adapters.replies.mend import mended
from rlm_adapters.replies.messages import repair_message
from rlm_adapters.replies.prose import declines, is_prose, stated_answer, takes_back, without_answer_tag
from rlm_adapters.replies.reading import UNSET, Problem, Reading, TextFinish
from rlm_adapters.replies.syntax import Syntax, acts, bound_names
from rlm_adapters.replies.thoughts import drop_thoughts

MAX_CHARS: Final = 1_000_000
"""Longest reply that is read; no model writes as much in one turn."""
MAX_CELLS: Final = 500

_CUT_OFF: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "incomplete"})
_FILTERED: Final = frozenset({"content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content"})
_TEXT_LABELS: Final = frozenset({"", "text", "txt", "plaintext", "plain", "markdown", "md", "final", "answer"})
_JSON_LABELS: Final = frozenset({"", "json", "json5", "jsonc", "tool_call", "tool_calls", "tool", "function_call"})

_FENCE_LINE: Final = re.compile(r"^[ \t]*(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)$", re.MULTILINE)
_DSPY_FIELD: Final = re.compile(r"^[ \t]*\[\[[ \t]*##[ \t]*(\w+)[ \t]*##[ \t]*\]\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a text holds: cells, the marks of a finish, and why there may be none."""

    cells: tuple[str, ...] = ()
    mark: Mark | None = None
    prose: str = ""
    thought: str = ""
    problem: Problem = "no_code"
    detail: str = ""
    note: str = ""
    refused: Mark | None = None
    """A finish that was taken back, or that followed invented output."""


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


def accept_provisional(finish: TextFinish, printed: str) -> bool:
    """Whether a finish beside code may end the run, given all that the REPL has printed so far.

    Literal text was written before the output was seen. It is taken when the output says it: as words of their own
    (``42`` is not in ``1942``), a very short word only at the end of a line. Ask only after the cells succeeded.
    """
    if not finish.provisional:
        return True
    said = [finish.text]
    if finish.literal is not UNSET:
        said.append(repr(finish.literal))
    output = " ".join(printed.split())
    lines = printed.split("\n")
    for candidate in said:
        wanted = " ".join(candidate.split())
        if not wanted:
            continue
        if len(wanted) <= 3 and not any(c.isdigit() for c in wanted):
            if any(re.search(rf"(?:^|[:=]\s*)[\"']?{re.escape(wanted)}[\"']?\.?\s*$", line) for line in lines):
                return True
        elif _stands_alone(wanted, output):
            return True
    return False


def _stands_alone(wanted: str, output: str) -> bool:
    before = r"(?<![\w])(?<!\d[.,])(?<![-\u2212])" if wanted[0].isdigit() else r"(?<!\w)" if wanted[0].isalnum() else ""
    after = r"(?!\w|[.,]\d)" if wanted[-1].isdigit() else r"(?!\w)" if wanted[-1].isalnum() else ""
    return re.search(before + re.escape(wanted) + after, output) is not None


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
        found = self._find(text) if not is_blank(text) else _Found()
        if called:
            cells = tuple(mended(cell, self._syntax) or cell for cell in called)
            found = replace(found, cells=cells)
        thoughts += [found.thought, found.prose]
        thought = "\n\n".join(part.strip() for part in thoughts if part.strip())
        reading = self._decide(found, text, thought)
        if reading.kind != "repair" or reading.repair not in (
            "no_code",
            "unparsable",
            "empty",
            "cut_off",
            "unknown_tool",
        ):
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

    def _decide(self, found: _Found, text: str, thought: str) -> Reading:
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

    def _best_so_far(self, found: _Found, text: str) -> str | None:
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

    def _find(self, text: str) -> _Found:
        """The outermost container, and what it holds."""
        value = whole_json(text)
        if value is not None and _is_call(value):
            cells = self._calls.of(value)
            if cells:
                return self._runnable(cells)
            problem: Problem = "unknown_tool" if _names_tool(value) else "no_code"
            return _Found(problem=problem)
        field = next((f for f in _DSPY_FIELD.finditer(text) if f[1].lower() == "code" and not _fenced(text, f)), None)
        if field is not None:
            following = next((f for f in _DSPY_FIELD.finditer(text, field.end())), None)
            body = text[field.end() : following.start() if following else len(text)].strip("\n ")
            return self._in_field(body, text[: field.start()])
        return self._in_text(text)

    def _in_field(self, body: str, before: str) -> _Found:
        """The content of DSPy's code field: fences, or code as it stands."""
        prose = _DSPY_FIELD.sub("", before).strip()
        if body.strip() in ("None", "null", "N/A"):
            return _Found(thought=prose)
        fenced = re.search(r"^[ \t]*(?:`{3}|~{3})", body, re.MULTILINE) or body.startswith("<")
        finishes = Marks(body).opens(0) and self._syntax.tree(body) is None
        python = Fence("python", body, closed=True)
        found = self._in_text(body) if fenced or finishes else self._from_python([python])
        return replace(found, thought=prose)

    def _in_text(self, text: str) -> _Found:
        text = _with_fence_opened(_before_dialogue(text), self._syntax)
        has_container = re.search(r"^[ \t>*+\d.-]*(?:`{3}|~{3}|<\w)", text, re.MULTILINE) or "```" in text
        if not has_container and not self._calls.opens(text, 0, len(text)):
            action = react_action(text)
            if action is not None:
                return self._from_action(*action, text)
            bare = bare_code(text, self._syntax)
            if bare is not None:
                return _Found((bare[0],), prose=bare[1])
        scan = Scanner(text, self._syntax, self._calls).run()
        return self._from_scan(scan)

    def _from_action(self, name: str, body: str, text: str) -> _Found:
        cells = self._calls.named(name, body)
        prose = text[: text.find(body)] if body else text
        if not cells and not self._syntax.has_statement(body):
            return _Found(prose=prose, problem="unknown_tool")
        return _Found(tuple(cells or [body]), prose=prose)

    def _from_scan(self, scan: Scan) -> _Found:
        fences = [block for block in scan.blocks if isinstance(block, Fence)]
        python = [f for f in fences if f.is_python]
        for block in scan.blocks:
            if isinstance(block, Region) and not block.is_call and "```" in block.text:
                inner = Scanner(block.text, self._syntax, self._calls).run()
                python += [f for f in inner.blocks if isinstance(f, Fence) and f.label in ("", *_PYTHON)]
        found = self._from_python(python)
        if not found.cells:
            others = self._from_others(scan)
            if others:
                found = self._runnable(others)
        mark, refused = self._finish(scan, in_fences=not found.cells)
        if found.mark is not None and (mark is None or not found.cells):
            mark = mark or found.mark
        if scan.cut and refused is None:
            refused = self._mark_in(scan.cut)
        problem, detail = found.problem, found.detail
        if not found.cells and problem == "no_code":
            problem = self._why_nothing(scan)
        if scan.unclosed_finish and not found.cells and mark is None:
            detail = "Your FINAL( was never closed by `)` at the end of a line."
        return replace(found, mark=mark, prose=scan.prose, problem=problem, detail=detail, refused=refused)

    def _from_python(self, fences: Sequence[Fence]) -> _Found:
        """The blocks with a Python label."""
        cells: list[str] = []
        note = ""
        problem: Problem = "no_code"
        finish: Mark | None = None
        for index, fence in enumerate(fences[:MAX_CELLS]):
            body = fence.body.strip("\n")
            code = mended(body, self._syntax)
            if code is None:
                if (alone := self._only_finish(body)) is not None:
                    finish = alone
                elif not fence.closed and index == len(fences) - 1:
                    problem = "unparsable"
                    note = "The last block was not closed and does not parse, so it was not run."
                elif is_prose(body, self._syntax):
                    problem = "unparsable" if problem == "no_code" else problem
                elif re.match(r"\s*(?:!|%%)", body):
                    problem = "other_language"
                else:
                    cells.append(body)  # its SyntaxError says best what is wrong
                continue
            if self._syntax.has_statement(code):
                cells.append(code)
            elif body.strip() and not code.strip():
                problem = "other_language"
        return _Found(_once(cells), finish, problem=problem, note=note if cells else "")

    def _runnable(self, cells: Sequence[str]) -> _Found:
        """Cells of calls and tags, mended where they must be."""
        return self._from_python([Fence("python", cell, closed=True) for cell in cells])

    def _from_others(self, scan: Scan) -> list[str]:
        """Without a labelled block: calls and tags, JSON with a code key, then unlabelled blocks that act."""
        cells: list[str] = []
        for block in scan.blocks:
            if isinstance(block, Region):
                if not block.is_call:
                    held = self._calls.in_json(block.text) if block.text.lstrip()[:1] in ("{", "[") else []
                    cells += held or [block.text]
                else:
                    cells += self._calls.in_region(block.text)
            elif isinstance(block, Fence) and block.label in _JSON_LABELS and block.body.lstrip()[:1] in ("{", "["):
                cells += self._calls.in_json(block.body.strip())
        if cells:
            return cells
        cells = self._calls.in_json(scan.prose, line_starts_only=True) if "{" in scan.prose else []
        if cells:
            return cells
        for block in scan.blocks:
            if isinstance(block, Fence) and block.label in ("", "code"):
                code = mended(block.body.strip("\n"), self._syntax)
                tree = self._syntax.tree(code) if code is not None else None
                if code is not None and tree is not None and acts(tree):
                    cells.append(code)
        return cells

    def _finish(self, scan: Scan, *, in_fences: bool) -> tuple[Mark | None, Mark | None]:
        """The last usable finish, and one that was taken back."""
        taken_back: Mark | None = None
        chosen: Mark | None = None
        arguments = Arguments(self._names, self._syntax)
        for index in range(len(scan.blocks) - 1, max(-1, len(scan.blocks) - 200), -1):
            mark = self._mark_of(scan.blocks[index], in_fences=in_fences)
            if mark is None:
                continue
            if chosen is None and taken_back is None and self._is_taken_back(scan, index):
                taken_back = mark
                break
            if chosen is None or isinstance(arguments.read(chosen), Refused):
                usable = not isinstance(arguments.read(mark), Refused)
                chosen = mark if chosen is None or usable else chosen
            else:
                break
        return chosen, taken_back

    def _is_taken_back(self, scan: Scan, index: int) -> bool:
        return any(takes_back(after) for after in scan.after[index:])

    def _mark_of(self, block: Block, *, in_fences: bool) -> Mark | None:
        if isinstance(block, Mark):
            return block
        if in_fences and isinstance(block, Fence) and block.label in _TEXT_LABELS:
            return self._only_finish(block.body)
        return None

    def _only_finish(self, body: str) -> Mark | None:
        """The finish, if a block holds nothing else: no cell can be meant."""
        stripped = body.strip()
        marks = Marks(stripped)
        opening = marks.opens(0)
        mark = marks.read(opening) if opening else None
        return mark if mark is not None and mark.end >= len(stripped) else None

    def _mark_in(self, text: str) -> Mark | None:
        """The last finish in text that was cut away."""
        marks = Marks(text[:100_000])
        found: Mark | None = None
        for line in list(re.finditer(r"^.*FINAL", text[:100_000], re.MULTILINE))[-20:]:
            opening = marks.opens(line.start())
            found = (marks.read(opening) if opening else None) or found
        return found

    def _why_nothing(self, scan: Scan) -> Problem:
        for block in scan.blocks:
            if isinstance(block, Region):
                return "unknown_tool" if block.is_call and self._calls.is_whole(block.text) else "unparsable"
            if isinstance(block, Fence) and block.label not in (*_TEXT_LABELS, *_JSON_LABELS, *_PYTHON):
                return "other_language"
        return "no_code"


_PYTHON: Final = ("python", "py", "repl")


def _once(cells: Sequence[str]) -> tuple[str, ...]:
    """Neighbouring identical blocks once: a model that stutters."""
    kept: list[str] = []
    for cell in cells:
        if not kept or kept[-1].strip() != cell.strip():
            kept.append(cell)
    return tuple(kept)


def _is_call(value: Any) -> bool:
    """A JSON reply that is a move; other data is data."""
    if isinstance(value, list):
        return any(isinstance(item, dict) and _is_call(item) for item in value[:200])
    return isinstance(value, dict) and bool(
        {
            "code",
            "arguments",
            "parameters",
            "tool_uses",
            "tool_calls",
            "action_input",
            "tool_input",
            "function",
            "python",
        }
        & value.keys()
    )


def _names_tool(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in ("name", "tool", "action"))


def _fenced(text: str, field: re.Match[str]) -> bool:
    return len(re.findall(r"^[ \t]*`{3}", text[: field.start()], re.MULTILINE)) % 2 == 1


def _with_fence_opened(text: str, syntax: Syntax) -> str:
    """Put back an opening fence that was part of the prompt: the reply begins as code and holds one bare close."""
    marks = list(itertools.islice(_FENCE_LINE.finditer(text), 2))
    if len(marks) != 1 or marks[0]["info"].strip():
        return text
    before = text[: marks[0].start()]
    tree = syntax.tree(before) if before.strip() else None
    return f"{marks[0]['mark']}python\n{text.lstrip(chr(10))}" if tree is not None and acts(tree) else text


def _before_dialogue(text: str) -> str:
    """Cut an invented conversation: a user's paragraph and an assistant's, with no block between them."""
    roles = list(itertools.islice(ROLE_LINE.finditer(text), 200))
    for user, answer in itertools.pairwise(roles):
        if not re.search("user|human", user[0], re.IGNORECASE) or not re.search(
            "assistant|ai", answer[0], re.IGNORECASE
        ):
            continue
        before = text[: user.start()]
        alone = not before.strip() or before.endswith("\n\n")
        if alone and before.count("```") % 2 == 0 and "```" not in text[user.end() : answer.start()]:
            return before
    return text
