"""recursive-llm (``import rlm``): RestrictedPython in a worker process, LiteLLM as the client."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.driver import Config, Dialect, Driver

DIALECT = Dialect(
    title="recursive-llm",
    packages=("recursive-llm",),
    version_of="recursive-llm",
    way="python",
    context="context",
    final="answer['content'] = {answer}\nanswer['ready'] = True",
    ask="llm_query({prompt})",
    batch="llm_query_batched({prompts})",
    limits="5 s by default; memory off by default",
)


def make(config: Config) -> Driver:
    """One object for each run. Its budget counts root calls too."""
    from rlm import RLM

    def new() -> Any:
        return RLM(
            f"openai/{config.model}",
            api_base=config.base_url,
            api_key=config.api_key,
            max_iterations=config.max_iterations,
            max_total_calls=config.max_iterations + config.max_calls,
            repl_timeout=config.cell_seconds or 5,
            repl_memory_limit_mb=config.cell_megabytes,
        )

    def run(query: str, context: str) -> str:
        return str(new().complete(query, context))

    async def arun(query: str, context: str) -> str:
        return str(await new().acomplete(query, context))

    return Driver(run, arun)
