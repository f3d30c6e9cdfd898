"""Traces that optimizers can make demos of.

An RLM calls its action predictor once for each step, and optimizers pick single calls of a trace as demos: half of
BootstrapFewShot's would be an exploring step without its end. The last step holds the whole trajectory: all earlier
ones stand in its ``repl_history``. So only that one stays.
"""

from __future__ import annotations

import threading
from typing import Any

_LOCK = threading.Lock()  # several RLMs of one program may share a trace list


def keep_last_step(trace: list[Any] | None, made: list[Any]) -> None:
    """Take all but the last of these predictions out of a trace.

    Args:
        trace: ``dspy.settings.trace``.
        made: predictions of one run's action predictor, in order.
    """
    earlier = {id(prediction) for prediction in made[:-1]}
    if not trace or not earlier:
        return
    with _LOCK:
        for index in reversed(range(len(trace))):  # in place: other threads may append meanwhile
            if id(trace[index][2]) in earlier:
                del trace[index]
