"""Exceptions that end a cell. Code in a cell can neither name nor catch them."""

from __future__ import annotations

import sys


class ControlFlow(BaseException):
    """Base class of exceptions that end a cell from outside.

    It is not an ``Exception``, so ``except Exception`` and a bare ``except`` (which the policy turns into the former)
    do not catch it, and neither do context managers and ``finally`` blocks of cells.
    """


class CellTimeout(ControlFlow):
    """The cell has used its CPU time. The signal handler of the worker's CPU timer raises it."""


class FinalSignal(ControlFlow):
    """The cell has submitted its answer."""


class TaskCancelled(ControlFlow):
    """The cell has ended while this task was still waiting."""


def reraise_control_flow() -> None:
    """Raise the current control-flow exception again in a ``finally`` block.

    The policy calls this before a ``return``, ``break`` or ``continue`` in a ``finally`` block, which would drop the
    exception.
    """
    exception = sys.exc_info()[1]
    if isinstance(exception, ControlFlow):
        raise exception
