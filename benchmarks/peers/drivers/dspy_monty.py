"""dspy.RLM with Monty, a subset of Python in Rust."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers.driver import Config, Driver
from benchmarks.peers.drivers import dspy_deno

DIALECT = replace(
    dspy_deno.DIALECT,
    title="dspy.RLM, Monty",
    packages=("dspy", "dspy-monty-interpreter"),
    version_of="dspy-monty-interpreter",
    deno=False,
    limits="time and memory, off by default",
    environment="dspy-monty",
)


def make(config: Config) -> Driver:
    """The same module with Monty's interpreter and its limits."""
    from dspy_monty_interpreter import MontyInterpreter

    limits = None
    if config.cell_seconds is not None and config.cell_megabytes is not None:
        limits = {"max_turn_duration_secs": config.cell_seconds, "max_memory": config.cell_megabytes * 1_000_000}
    return dspy_deno.make(config, MontyInterpreter.factory(resource_limits=limits))
