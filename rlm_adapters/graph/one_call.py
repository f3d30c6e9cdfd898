"""A checkpointer for one call: a copy that behaves differently, while the caller's own stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any


def for_one_call(saver: Any, kind: Callable[[Any], Any], async_kind: Callable[[Any], Any]) -> Any:
    """Copy a checkpointer. The copy has the same connection, and the same lock around it.

    Args:
        saver: the checkpointer.
        kind: makes the class of the copy from that of a sync checkpointer.
        async_kind: likewise for an async one, whose sync methods use the async ones.
    """
    made = copy.copy(saver)
    made.__class__ = (async_kind if hasattr(saver, "loop") else kind)(type(saver))
    return made
