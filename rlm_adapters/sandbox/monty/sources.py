"""Find out from the text of a cell whether a call is awaited.

An awaited call must be answered with a promise, any other call with its value, but the interpreter does not report
which it is. Cells are not parsed in the host (see `loss`).
"""

from __future__ import annotations

from typing import Any, Final

_GATHERING: Final = ("gather(", "create_task(", "wait_for(", "as_completed(", "wait(")


class Sources:
    """The cells of a session, by the file names in their frames."""

    def __init__(self) -> None:
        self._cells: dict[str, str] = {}
        self._latest = ""

    def begin(self, code: str) -> None:
        """Add a cell before it runs."""
        self._latest = code

    def is_awaited(self, snapshot: Any) -> bool:
        """Whether the current call is awaited, or passed to a function that awaits it."""
        position = snapshot.position
        code = self._cells.setdefault(position.filename, self._latest)
        before = code.encode()[: position.start].decode("utf-8", "replace").rstrip()
        if before.endswith(("await", "await (")):
            return True
        return any(_is_inside(before, opening) for opening in _GATHERING)


def _is_inside(before: str, opening: str) -> bool:
    """Whether the last ``opening`` has not been closed again."""
    start = before.rfind(opening)
    if start < 0:
        return False
    rest = before[start:]
    return rest.count("(") > rest.count(")")
