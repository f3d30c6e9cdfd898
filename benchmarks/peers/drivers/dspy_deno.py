"""dspy.RLM with its default interpreter, Pyodide in Deno."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.driver import Config, Dialect, Driver

DIALECT = Dialect(
    title="dspy.RLM, Deno",
    packages=("dspy", "deno"),
    version_of="dspy",
    way="dspy",
    context="context",
    final="SUBMIT({answer})",
    ask="llm_query({prompt})",
    batch="llm_query_batched({prompts})",
    deno=True,
    environment="dspy",
)


def make(config: Config, interpreter: Callable[[], Any] | None = None) -> Driver:
    """A module for each run, with the interpreter that is given."""
    import dspy

    chosen = {} if interpreter is None else {"interpreter_factory": interpreter}
    lm = dspy.LM(f"openai/{config.model}", api_base=config.base_url, api_key=config.api_key, cache=False)

    def new() -> Any:
        return dspy.RLM(
            "query: str, context: str -> answer: str",
            max_iters=config.max_iterations,
            max_llm_calls=config.max_calls,
            **chosen,
        )

    def run(query: str, context: str) -> str:
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            return str(new()(query=query, context=context).answer)

    async def arun(query: str, context: str) -> str:
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
            return str((await new().acall(query=query, context=context)).answer)

    return Driver(run, arun)
