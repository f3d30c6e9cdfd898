"""Answers in the terminal: Markdown where a model wrote it, and nothing of it lost."""

from __future__ import annotations

import re
from typing import Final

from markdown_it import MarkdownIt
from rich.console import RenderableType
from rich.markdown import Markdown
from rich.text import Text

# A heading, an item of a list, a quotation, a fence, the line under a table's head, or strong text.
_MARKS: Final = re.compile(
    r"^ {0,3}(#{1,6} |[-*+] |\d{1,9}[.)] |> |```|~~~|\|?[ :]*-{3,}[ :]*\|)|\*\*\S[^\n]*?\*\*", re.MULTILINE
)
_MOST_CHARS: Final = 20_000
"""A longer answer is shown as it is."""


def answer_view(text: str) -> RenderableType:
    """A text as Markdown if it is written as such, else as it is.

    Line breaks stay where they are. HTML, entities, images and definitions of links are shown as they stand, since a
    terminal cannot show what they mean; addresses of links are written out and cannot be clicked.

    Args:
        text: without control characters.
    """
    if len(text) > _MOST_CHARS or not _MARKS.search(text):
        return Text(text)
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    parser.disable(["image", "reference", "entity", "autolink"])
    shown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
    shown.parsed = parser.parse(text)
    for token in shown.parsed:
        for part in token.children or ():
            if part.type == "softbreak":
                part.type = "hardbreak"
    return shown
