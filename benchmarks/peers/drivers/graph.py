"""Ours: the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.peers.driver import Config, Dialect, Driver

DIALECT = Dialect(
    title="ours: graph",
    packages=("{ours}[openai,dspy]",),
    version_of="rlm-adapters",
    way="repl",
    context="context",
    final="SUBMIT({answer})",
    ask="llm_query({prompt})",
    batch="llm_query_batched({prompts})",
    limits="60 s of CPU, 512 MB and 6 times the input by default",
    environment="rlm-adapters",
)


def sandbox(config: Config) -> Any:
    """A sandbox with the limits of cells; None: the default one."""
    from rlm_adapters import Sandbox, SandboxLimits

    if config.cell_seconds is None or config.cell_megabytes is None:
        return None
    return Sandbox(
        limits=SandboxLimits(cpu_seconds=config.cell_seconds, memory_bytes=config.cell_megabytes * 1_000_000)
    )


def limits(config: Config) -> Any:
    """The limits of a run."""
    from rlm_adapters import Limits

    own = Limits(max_iterations=config.max_iterations, max_calls=config.max_calls)
    return own if config.max_concurrency is None else replace(own, max_concurrency=config.max_concurrency)


def make(config: Config) -> Driver:
    """A graph."""
    from rlm_adapters import create_rlm_graph

    graph = create_rlm_graph(f"openai:{config.model}", limits=limits(config), sandbox=sandbox(config))

    def run(query: str, context: str) -> str:
        return str(graph.invoke({"query": query, "context": context})["answer"])

    async def arun(query: str, context: str) -> str:
        return str((await graph.ainvoke({"query": query, "context": context}))["answer"])

    return Driver(run, arun)
