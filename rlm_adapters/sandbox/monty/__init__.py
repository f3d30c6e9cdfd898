"""A second executor: pydantic-monty, a Python interpreter of its own, written in Rust (extra ``monty``).

Its language boundary is stronger than any filter before CPython can be, since there is nothing behind it to reach;
in exchange it runs less of Python (no ``yield``, no inheritance, fewer modules), and there is no run-ahead. Its own
worker processes are not confined by the operating system here.
"""

from __future__ import annotations

from rlm_adapters.sandbox.monty.sandbox import MontySandbox

__all__ = ["MontySandbox"]
