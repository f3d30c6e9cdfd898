"""Handle child processes that were made by ``fork``: gunicorn --preload, Celery's prefork, multiprocessing.

A child has no threads of its parent, but shares its sockets and processes. So live parts are made again in the child.
Those of the parent are neither used nor closed there, because closing them would end the parent's workers.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Final, Protocol


class Forgetful(Protocol):
    """An object with live parts."""

    def forget_parent(self) -> Any:
        """Start again in a forked child. It is called at the fork, before anything else in the child.

        Returns:
            Objects that must be neither used nor closed in the child. They are kept until the child ends.
        """
        ...


_known: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_inherited: Final[list[Any]] = []


def forget_in_children(thing: Forgetful) -> None:
    """Call ``forget_parent`` of an object in each forked child, as long as the object exists."""
    _known.add(thing)


def _after_fork_in_child() -> None:
    _inherited.extend(thing.forget_parent() for thing in list(_known))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
