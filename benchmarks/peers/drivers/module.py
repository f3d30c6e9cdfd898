"""Ours: the DSPy module."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers.driver import Config, Driver
from benchmarks.peers.drivers import graph

DIALECT = replace(graph.DIALECT, title="ours: DSPy RLM", way="dspy")


def make(config: Config) -> Driver:
    """A module; a fresh one for each run would only parse its signature again."""
    import dspy

    from rlm_adapters import RLM

    lm = dspy.LM(f"openai/{config.model}", api_base=config.base_url, api_key=config.api_key, cache=False)
    rlm = RLM(
        "query: str, context: str -> answer: str",
        max_iters=config.max_iterations,
        max_llm_calls=config.max_calls,
        sandbox=graph.sandbox(config),
    )

    def run(query: str, context: str) -> str:
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            return str(rlm(query=query, context=context).answer)

    async def arun(query: str, context: str) -> str:
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            return str((await rlm.acall(query=query, context=context)).answer)

    return Driver(run, arun)
