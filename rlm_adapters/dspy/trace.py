"""Keep only the parts of a trace from which optimizers can make good demos.

An RLM calls its action predictor once for each step, and optimizers use single calls of a trace as demos. Half of the
demos of BootstrapFewShot would be first steps without an end. The last step has the whole trajectory, with all earlier
steps in its ``repl_history``. So only the last step is kept.
"""

from __future__ import annotations

import threading
from typing import Any

_LOCK = threading.Lock()  # several RLMs of one program may share a trace list


def keep_last_step(trace: list[Any] | None, made: list[Any]) -> None:
    """Remove all these predictions from a trace, except the last one.

    Args:
        trace: ``dspy.settings.trace``.
        made: predictions of the action predictor in one run, in order.
    """
    earlier = {id(prediction) for prediction in made[:-1]}
    if not trace or not earlier:
        return
    with _LOCK:
        for index in reversed(range(len(trace))):  # in place, because other threads may append at the same time
            if id(trace[index][2]) in earlier:
                del trace[index]
