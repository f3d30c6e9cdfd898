"""Write a run as a small HTML outline for the output of a notebook cell.

It needs no script and no network, so it works also in a notebook that is not trusted. All text of cells and models is
escaped. Its style applies only to its own class, so several outlines and the page around them do not affect each other.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Final

from rlm_adapters.views.page.page import Answer, Part, Status, coloured
from rlm_adapters.views.text import safe

MAX_TEXT: Final = 4_000
"""Most characters of one text in an outline."""
MAX_TEXTS: Final = 200_000
"""Most characters of all texts, because the notebook file stores its outputs."""
_HEAD: Final = 120
"""Characters of each further text."""
_NOTEBOOK_CLASSES: Final = "rlm-run tex2jax_ignore mathjax_ignore"  # otherwise a notebook reads $...$ as a formula

# Characters that HTML cannot contain, or UTF-8 cannot encode.
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(slots=True, kw_only=True)
class Fold:
    """A line that can be unfolded."""

    kind: str
    """Its colour: ``root``, ``cell``, ``call``, ``child``, ``tool`` or ``note``."""
    label: str
    """Its kind, in a word or two."""
    title: str = ""
    """Text of a cell or model, in one line."""
    facts: str = ""
    status: Status = "ok"
    bar: tuple[float, float] | None = None
    """Start and end as fractions of the run's time, 0 to 1."""
    parts: list[Part] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    more: str = ""
    """A note about what is left out at its end."""
    open: bool = False


@dataclass(slots=True, kw_only=True)
class Outline:
    """The outline of a run."""

    question: str
    answer: Answer
    facts: Sequence[tuple[str, str]]
    folds: Sequence[Fold]
    more: str = ""
    foot: str = ""


def outline_html(shown: Outline) -> str:
    """Write it as HTML for a part of a page."""
    left = _Left()
    style = resources.files(__package__).joinpath("outline.css").read_text(encoding="utf-8")
    facts = " ".join(f"<span>{_text(name)} <b>{_text(value)}</b></span>" for name, value in shown.facts)
    return "".join((
        f'<div class="{_NOTEBOOK_CLASSES}"><style>{style}</style>',
        f'<pre class="rlm-question">{_text(left.cut(shown.question))}</pre>',
        f'<div class="rlm-facts">{facts}</div>',
        f'<div class="rlm-answer{"" if shown.answer.good else " rlm-bad"}"><b>{_text(shown.answer.title)}</b>',
        f"<pre>{_text(left.cut(shown.answer.text))}</pre></div>" if shown.answer.text else "</div>",
        *(_fold(fold, left) for fold in shown.folds),
        _more(shown.more),
        f'<div class="rlm-foot">{_text(shown.foot)}</div></div>',
    ))  # fmt: skip


def outline_text(shown: Outline) -> str:
    """Write it as plain text, without calls."""
    lines = [shown.question[:MAX_TEXT], ", ".join(f"{name} {value}" for name, value in shown.facts)]
    for fold in shown.folds:
        marked = f" {fold.status}" if fold.status != "ok" else ""
        lines.append("  ".join(part for part in (f"{fold.label}{marked}:", fold.title, fold.facts) if part))
        lines += [f"    {inner.label} {inner.title}  {inner.facts}" for inner in fold.folds if inner.kind == "cell"]
    lines += [shown.more] if shown.more else []
    lines.append(f"{shown.answer.title}: {shown.answer.text[:MAX_TEXT]}")
    return safe("\n".join(lines))


@dataclass(slots=True)
class _Left:
    """How many more characters an outline may have."""

    chars: int = MAX_TEXTS

    def cut(self, text: str, whole: int = 0) -> str:
        """The text, or its beginning with the number of characters that are left out."""
        shown = text[: MAX_TEXT if self.chars > 0 else _HEAD]
        self.chars -= len(shown)
        out = max(whole, len(text)) - len(shown)
        return f"{shown}\n... {out:,} more characters" if out > 0 else shown


def _fold(fold: Fold, left: _Left) -> str:
    mark = {"failed": ' <span class="rlm-failed">failed</span>', "running": ' <span class="rlm-facts">runs</span>'}
    bar = ""
    if fold.bar is not None:
        begin, end = (100 * min(1.0, max(0.0, one)) for one in fold.bar)
        place = f"margin-left:{begin:.2f}%;width:{max(0.0, end - begin):.2f}%"
        bar = f'<span class="rlm-bar"><span style="{place}"></span></span>'
    line = (
        f'<span class="rlm-kind">{_text(fold.label)}</span>{mark.get(fold.status, "")} '
        f'<code>{_text(fold.title)}</code> <span class="rlm-facts">{_text(fold.facts)}</span>{bar}'
    )
    name = f'class="rlm-{fold.kind}"'
    if not (fold.parts or fold.folds or fold.more):
        return f"<div {name}>{line}</div>"
    inner = "".join((
        *(f'<div class="rlm-name">{_text(part.name)}</div>{_part(part, left)}' for part in fold.parts),
        *(_fold(one, left) for one in fold.folds),
        _more(fold.more),
    ))  # fmt: skip
    return f"<details {name}{' open' if fold.open else ''}><summary>{line}</summary>{inner}</details>"


def _part(part: Part, left: _Left) -> str:
    shown = left.cut(part.text, part.chars or 0)
    if not part.code:
        return f"<pre>{_text(shown)}</pre>"
    runs = (
        f'<span class="rlm-h-{name}">{_text(text)}</span>' if name else _text(text) for name, text in coloured(shown)
    )
    return f"<pre>{''.join(runs)}</pre>"


def _more(text: str) -> str:
    return f'<div class="rlm-more">{_text(text)}</div>' if text else ""


def _text(text: str) -> str:
    return html.escape(_UNSAFE.sub("\ufffd", text))
