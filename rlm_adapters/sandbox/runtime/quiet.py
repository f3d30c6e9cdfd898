"""Keep messages of the interpreter away from the real streams of the process while a cell runs."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlm_adapters.sandbox.runtime.output import Writer


@contextmanager
def quiet_interpreter(output: Writer) -> Iterator[None]:
    """Send warnings about the running code to ``output``, and drop exceptions that cannot be caught."""
    previous = sys.unraisablehook

    def show(message: Any, category: type[Warning], *_where: Any, **_more: Any) -> None:
        output.write(f"{category.__name__}: {message}\n")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Such as "coroutine 'ask' was never awaited".
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = show
        sys.unraisablehook = lambda _: None
        try:
            yield
        finally:
            sys.unraisablehook = previous


@contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Silence a library that writes to the real standard error."""
    logger = logging.getLogger(name)
    previous, logger.propagate = logger.propagate, False
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = previous
