"""Show answers in the terminal: render Markdown without losing any text."""

from __future__ import annotations

import re
from typing import Final

from markdown_it import MarkdownIt
from rich.console import RenderableType
from rich.markdown import Markdown
from rich.text import Text

# A heading, a list item, a quotation, a fence, the line under a table's head, or strong text.
_MARKS: Final = re.compile(
    r"^ {0,3}(#{1,6} |[-*+] |\d{1,9}[.)] |> |```|~~~|\|?[ :]*-{3,}[ :]*\|)|\*\*\S[^\n]*?\*\*", re.MULTILINE
)
_MOST_CHARS: Final = 20_000
"""A longer answer is shown as plain text."""


def answer_view(text: str) -> RenderableType:
    """A text rendered as Markdown if it looks like Markdown, else as plain text.

    Line breaks are kept. HTML, entities, images and definitions of links are shown as source, because a terminal cannot
    render them. Addresses of links are printed and cannot be clicked.

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
