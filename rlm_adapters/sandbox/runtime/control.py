"""Signals that end a cell. Code in a cell can neither name nor swallow them."""

from __future__ import annotations

import sys


class ControlFlow(BaseException):
    """Base of what ends a cell from outside its own logic.

    Not an ``Exception``: ``except Exception`` and a bare ``except`` (which the policy turns into the former) let
    it pass, and so do the context managers and ``finally`` blocks that cells can write.
    """


class CellTimeout(ControlFlow):
    """The cell has used up its CPU time. Raised by the signal handler of the worker's CPU timer."""


class FinalSignal(ControlFlow):
    """The cell has submitted its answer."""


class TaskCancelled(ControlFlow):
    """The cell has ended while this task of it was still waiting."""


def reraise_control_flow() -> None:
    """Raise the control-flow exception again that is on its way through a ``finally`` block.

    The policy calls this before a ``return``, ``break`` or ``continue`` in a ``finally`` block, which would
    swallow it.
    """
    exception = sys.exc_info()[1]
    if isinstance(exception, ControlFlow):
        raise exception
