"""What the spelling of a cell tells: whether a call is awaited.

A call that is awaited must be answered with a promise, any other with its value; the interpreter does not say which
it is. Cells are not parsed in the host (see `loss`).
"""

from __future__ import annotations

from typing import Any, Final

_GATHERING: Final = ("gather(", "create_task(", "wait_for(", "as_completed(", "wait(")


class Sources:
    """The cells of a session, by the file names that their frames have."""

    def __init__(self) -> None:
        self._cells: dict[str, str] = {}
        self._latest = ""

    def begin(self, code: str) -> None:
        """A cell is about to run."""
        self._latest = code

    def is_awaited(self, snapshot: Any) -> bool:
        """Whether the call at which the execution stands is awaited, or handed to something that awaits it."""
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
