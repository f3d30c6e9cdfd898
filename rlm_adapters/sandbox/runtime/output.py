"""Keep the output of a cell up to a limit: its head and its tail."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rlm_adapters.sandbox.runtime.formatting import exact_str

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


class Writer(Protocol):
    """An object that accepts text."""

    def write(self, text: str, /) -> object:
        """Accept the text."""


class Output:
    """Collects the output of a cell.

    Args:
        limit: characters to keep; three quarters of them from the beginning, one quarter from the end.
    """

    def __init__(self, limit: int) -> None:
        self._redirects: list[Writer] = []
        self.limit(limit)

    def limit(self, limit: int) -> None:
        """Keep so many characters, of what is written from now on."""
        self._head_limit = limit - limit // 4
        self._tail_limit = limit // 4
        self.clear()

    def clear(self) -> None:
        """Forget what was written."""
        self.chars = 0
        self._redirects.clear()
        self._head: list[str] = []
        self._head_room = self._head_limit
        self._tail: deque[str] = deque()
        self._tail_chars = 0

    def write(self, text: str) -> int:
        """Write text, as ``sys.stdout.write`` in a cell."""
        text = exact_str(text, "write")
        if self._redirects:
            self._redirects[-1].write(text)
            return len(text)
        if " at 0x" in text:
            # Addresses differ between runs, but a replayed cell must print the same.
            text = _ADDRESS.sub(" at 0x0", text)
        self.chars += len(text)
        if self._head_room:
            head, rest = text[: self._head_room], text[self._head_room :]
            self._head.append(head)
            self._head_room -= len(head)
        else:
            rest = text
        if rest:
            self._keep_tail(rest)
        return len(text)

    def _keep_tail(self, text: str) -> None:
        if len(text) > self._tail_limit:
            text = text[len(text) - self._tail_limit :]
        self._tail.append(text)
        self._tail_chars += len(text)
        while self._tail and self._tail_chars - len(self._tail[0]) >= self._tail_limit:
            self._tail_chars -= len(self._tail.popleft())

    def getvalue(self) -> str:
        """The kept text, with a note where characters were left out."""
        head, tail = "".join(self._head), "".join(self._tail)
        tail = tail[max(0, len(tail) - self._tail_limit) :]
        omitted = self.chars - len(head) - len(tail)
        note = f"\n... [{omitted:,} characters omitted] ...\n" if omitted else ""
        return head + note + tail

    @contextmanager
    def redirected(self, target: Writer) -> Iterator[Writer]:
        """Send the output to ``target`` inside the block (``contextlib.redirect_stdout``)."""
        self._redirects.append(target)
        try:
            yield target
        finally:
            if target in self._redirects:
                self._redirects.remove(target)


class OutputStream:
    """``sys.stdout`` and ``sys.stderr`` of the cells."""

    __slots__ = ("_output", "name")

    encoding = "utf-8"

    def __init__(self, output: Output, name: str) -> None:
        self._output = output
        self.name = name

    def write(self, text: str, /) -> int:
        """Print ``text``."""
        return self._output.write(text)

    def writelines(self, lines: list[str], /) -> None:
        """Print each of the lines."""
        for line in lines:
            self._output.write(line)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def isatty(self) -> bool:
        """Return False."""
        return False
