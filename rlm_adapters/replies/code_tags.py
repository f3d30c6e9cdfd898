"""Code in tags on separate lines: ``<code>``, ``<execute>`` and similar ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final

from rlm_adapters.replies.syntax import Syntax

_TAG: Final = re.compile(
    r"[ \t]*<(?P<name>code|python|py|python3|execute|repl|ipython|tool_code|python_code|execute_python|execute_code"
    r"|code_interpreter|run_python|run|cell|action)(?:[ \t][^>\n]*)?>",
    re.IGNORECASE,
)
_MAX_CLOSES: Final = 24
_CDATA: Final = re.compile(r"^\s*<!\[CDATA\[\n?|\n?\]\]>\s*$")


class CodeTags:
    """The code tags of one text, given as its lines."""

    def __init__(self, lines: list[str], syntax: Syntax) -> None:
        self._lines = lines
        self._syntax = syntax
        self._never_closed: set[str] = set()

    @staticmethod
    def opens(line: str) -> re.Match[str] | None:
        """The opening tag with which a line begins."""
        return _TAG.match(line) if "<" in line else None

    def read(self, number: int, opening: re.Match[str]) -> tuple[str, int] | None:
        """The code in the tag that opens on this line, and the number of the line after it.

        A string in the code may contain the closing tag. So the code ends at the first close before which it parses; if
        there is none, at the first close.
        """
        name = opening["name"].lower()
        if name in self._never_closed:
            return None
        head = self._lines[number][opening.end() :]
        first: tuple[str, int] | None = None
        for body, following in itertools.islice(self._closed(number, head, f"</{name}>"), _MAX_CLOSES):
            code = body.strip("\n")
            first = first or (code, following)
            if "```" in body or self._syntax.tree(code) is not None:
                return code, following
        if first is None:
            self._never_closed.add(name)
            return self._to_the_end(number, head)
        return first

    def _closed(self, number: int, head: str, close: str) -> Iterator[tuple[str, int]]:
        """For each closing tag at the end of a line: the text before it, and the number of the next line."""
        for end in range(number, len(self._lines)):
            line = head if end == number else self._lines[end]
            if "</" not in line or not (line := line.rstrip(" \t")).lower().endswith(close):
                continue
            last = line[: -len(close)].rstrip(" \t")
            body = last if end == number else "\n".join([head, *self._lines[number + 1 : end], last])
            yield _CDATA.sub("", body), end + 1

    def _to_the_end(self, number: int, head: str) -> tuple[str, int] | None:
        """The rest of the text, if the tag is alone on its line and the rest is code."""
        body = "\n".join(self._lines[number + 1 :]).strip("\n")
        if head.strip() or not self._syntax.has_statement(body):
            return None
        return body, len(self._lines)
