"""Ours: the chat model of LangChain."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers.driver import Config, Driver
from benchmarks.peers.drivers import graph

DIALECT = replace(graph.DIALECT, title="ours: ChatRLM")


def make(config: Config) -> Driver:
    """A chat model that always makes a run."""
    from rlm_adapters import ChatRLM

    model = ChatRLM(
        model=f"openai:{config.model}",  # type: ignore[arg-type] # a name is resolved by LangChain
        limits=graph.limits(config),
        sandbox=graph.sandbox(config),
        direct_below=0,
    )

    def run(query: str, context: str) -> str:
        return model.bind(context=context).invoke(query).text

    async def arun(query: str, context: str) -> str:
        return (await model.bind(context=context).ainvoke(query)).text

    return Driver(run, arun)
