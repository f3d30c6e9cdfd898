"""Copies of a process that were made by ``fork``: gunicorn --preload, Celery's prefork, multiprocessing.

A child has no threads of its parent's, and shares its sockets and processes. So what is live starts anew in the child,
and what it got from its parent is neither used nor closed there: closing it would end the parent's workers.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Final, Protocol


class Forgetful(Protocol):
    """Something with live parts."""

    def forget_parent(self) -> Any:
        """Start anew in a forked child. It runs at the fork, before anything else in the child.

        Returns:
            What must be neither used nor closed in the child: it is kept until the child ends.
        """
        ...


_known: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_inherited: Final[list[Any]] = []


def forget_in_children(thing: Forgetful) -> None:
    """Have something start anew in each child that this process forks, for as long as it lives."""
    _known.add(thing)


def _after_fork_in_child() -> None:
    _inherited.extend(thing.forget_parent() for thing in list(_known))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
