"""A second executor: pydantic-monty, a Python interpreter written in Rust (extra ``monty``).

Without CPython there are no objects that a cell could reach, so its language boundary is stronger than any filter. But
it runs less of Python (no ``yield``, no inheritance, fewer modules), and has no run-ahead. The operating system does
not confine its worker processes here.
"""

from __future__ import annotations

from rlm_adapters.sandbox.monty.sandbox import MontySandbox

__all__ = ["MontySandbox"]
