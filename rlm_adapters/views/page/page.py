"""Write a page of entries as one HTML file that needs no other file.

Texts of cells and models are in the page as JSON. The page's script parses this JSON, never evaluates it, and inserts
the texts into the document only as text. A policy in the page forbids all other scripts, styles and addresses.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from string import Template
from typing import Any, Final, Literal, TypeAlias

from pygments.lexers.python import PythonLexer
from pygments.token import Token, _TokenType, is_token_subtype

Kind: TypeAlias = Literal["run", "root", "cell", "call", "child", "tool", "note"]
Status: TypeAlias = Literal["ok", "failed", "running"]

MAX_PART: Final = 60_000
"""Most characters of one text in a page."""
MAX_PAGE: Final = 24_000_000
"""Most characters of all texts in a page. Of further texts the page has only the head."""
_HEAD = 300
_MAX_TITLE = 200
_MAX_COLOURED = 60_000  # longest cell that is coloured, in characters

# Characters that would end the script with the JSON, or that an encoder refuses.
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A text of an entry: its code, prompt, answer, output or error."""

    name: str
    text: str
    code: bool = False
    """Whether it is Python, which is shown in colours."""
    chars: int | None = None
    """Length of the whole text, if `text` is only its head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the tree and one bar of the timeline."""

    kind: Kind
    title: str
    parent: int | None = None
    """Index of the entry under which it is shown. It is less than the entry's own index."""
    depth: int = 0
    """Depth of its run."""
    start: float = 0.0
    """Seconds since the start of the outermost run."""
    end: float | None = None
    """Seconds since the start of the outermost run; None: not finished when the trace ended."""
    status: Status = "ok"
    model: str | None = None
    ahead: bool = False
    cached: bool = False
    attempt: int = 1
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    """In US dollars; None: unknown."""
    facts: Sequence[tuple[str, str]] = ()
    parts: Sequence[Part] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How the run ended."""

    title: str
    text: str
    good: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A small table in the head of the page."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The content of a page."""

    question: str
    answer: Answer | None
    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table] = ()
    entries: Sequence[Entry] = ()
    seconds: float = 0.0
    foot: str = ""


@dataclass(slots=True)
class _Texts:
    """The texts of a page, each only once, within the limits."""

    kept: list[Any] = field(default_factory=list)
    _places: dict[tuple[bool, str], int] = field(default_factory=dict)
    _left: int = MAX_PAGE

    def add(self, part: Part) -> dict[str, Any]:
        shown = part.text[: MAX_PART if self._left > 0 else _HEAD]
        key = (part.code, shown)
        if key not in self._places:
            self._places[key] = len(self.kept)
            self.kept.append(coloured(shown) if part.code and len(shown) <= _MAX_COLOURED else shown)
            self._left -= len(shown)
        whole = max(len(part.text), part.chars or 0)
        return {"name": part.name, "text": self._places[key], "left_out": whole - len(shown)}


def render(page: Page) -> str:
    """Write a page as HTML.

    Returns:
        A whole document. UTF-8 can encode all of it.
    """
    template, style, script = (_asset(f"report.{kind}") for kind in ("html", "css", "js"))
    return Template(template).substitute(
        title=html.escape(_one_line(f"{page.question[:80]} - RLM run").translate(_NO_SURROGATES)),
        style=style,
        script=script,
        style_hash=_source_hash(style),
        script_hash=_source_hash(script),
        data=_json_for_script(_data(page)),
    )


def coloured(code: str) -> list[list[str]]:
    """Python code as pieces of text, each with the name of its colour or an empty name."""
    runs: list[list[str]] = []
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(code):
        name = _colour(kind)
        if runs and runs[-1][0] == name:
            runs[-1][1] += text
        else:
            runs.append([name, text])
    return runs


_COLOURS: Final[Sequence[tuple[_TokenType, str]]] = (
    (Token.Comment, "c"),
    (Token.Keyword, "k"),
    (Token.Operator.Word, "k"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "m"),
    (Token.Name.Function, "f"),
    (Token.Name.Class, "f"),
    (Token.Name.Builtin, "f"),
)


def _colour(kind: _TokenType) -> str:
    return next((name for parent, name in _COLOURS if is_token_subtype(kind, parent)), "")


def _data(page: Page) -> dict[str, Any]:
    texts = _Texts()
    nodes = [_node(entry, number, texts) for number, entry in enumerate(page.entries)]
    answer = page.answer
    return {
        "question": page.question[:MAX_PART],
        "answer": None
        if answer is None
        else {"title": answer.title, "text": answer.text[:MAX_PART], "good": answer.good},
        "facts": [list(fact) for fact in page.facts],
        "tables": [
            {"heads": list(table.heads), "rows": [[_one_line(cell) for cell in row] for row in table.rows]}
            for table in page.tables
        ],
        "seconds": _finite(page.seconds) or 0.0,
        "foot": page.foot,
        "nodes": nodes,
        "texts": texts.kept,
    }


def _node(entry: Entry, number: int, texts: _Texts) -> dict[str, Any]:
    if entry.parent is not None and not 0 <= entry.parent < number:
        raise ValueError(f"entry {number} has the parent {entry.parent}; a parent must come before its children")
    start = _finite(entry.start) or 0.0
    end = _finite(entry.end)
    return {
        "kind": entry.kind,
        "title": _one_line(entry.title),
        "parent": entry.parent,
        "depth": entry.depth,
        "start": round(start, 6),
        "end": None if end is None else round(max(start, end), 6),
        "status": entry.status,
        "model": entry.model,
        "ahead": entry.ahead,
        "cached": entry.cached,
        "attempt": entry.attempt,
        "input_tokens": entry.input_tokens,
        "cached_tokens": entry.cached_tokens,
        "output_tokens": entry.output_tokens,
        "cost": _finite(entry.cost),
        "facts": [list(fact) for fact in entry.facts],
        "parts": [texts.add(part) for part in entry.parts],
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _one_line(text: str) -> str:
    return " ".join(text[: 4 * _MAX_TITLE].split())[:_MAX_TITLE]


_NO_SURROGATES: Final = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def _json_for_script(value: object) -> str:
    """JSON without characters that could end the script around it or that UTF-8 cannot encode."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _source_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def facts_of(pairs: Iterable[tuple[str, str | None]]) -> list[tuple[str, str]]:
    """The pairs that have a value."""
    return [(name, value) for name, value in pairs if value]
