"""rlmagents: a LangGraph agent with tools; its "strict" profile moves a long prompt into the REPL."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.peers.driver import Config, Dialect, Driver

DIALECT = Dialect(
    title="rlmagents",
    packages=("rlmagents",),
    version_of="rlmagents",
    way="tool",
    context="ctx",
    final="Final = {answer}",
    ask="sub_query({prompt})",
    batch="sub_query_map({prompts})",
    tool=("exec_python", "code"),
    ends_with_text=True,
    sub_reply="```python\nFinal = '{text}'\n```",  # a sub-query is a loop of its own
    limits="180 s by default",
)


def make(config: Config) -> Driver:
    """An agent for each run."""
    from langchain_openai import ChatOpenAI
    from rlmagents import create_rlm_agent

    def new() -> Any:
        models = [ChatOpenAI(model=config.model, base_url=config.base_url) for _ in range(2)]
        return create_rlm_agent(
            model=models[0],
            sub_query_model=models[1],
            rlm_tool_profile="strict",
            sandbox_timeout=config.cell_seconds or 180,
        )

    async def arun(query: str, context: str) -> str:
        asked = {"messages": [{"role": "user", "content": f"{query}\n{context}"}]}
        return str((await new().ainvoke(asked, {"recursion_limit": 400}))["messages"][-1].content)

    loop = asyncio.new_event_loop()  # one for all runs: langchain-openai keeps its client for the process

    def run(query: str, context: str) -> str:
        return loop.run_until_complete(arun(query, context))

    return Driver(run, arun)
