"""rlms (``import rlm``), the package of the paper's authors, with its default environment."""

from __future__ import annotations

from benchmarks.peers.driver import Config, Dialect, Driver

DIALECT = Dialect(
    title="rlms",
    packages=("rlms",),
    version_of="rlms",
    way="repl",
    context="context",
    final="answer['content'] = {answer}\nanswer['ready'] = True",
    ask="llm_query({prompt})",
    batch="llm_query_batched({prompts})",
    limits="none in its default environment",
)


def make(config: Config) -> Driver:
    """One object for each run: it keeps the state of a run."""
    from rlm import RLM

    options = {"model_name": config.model, "base_url": config.base_url, "api_key": config.api_key}

    def run(query: str, context: str) -> str:
        rlm = RLM(backend="openai", backend_kwargs=options, environment="local", max_iterations=config.max_iterations)
        return str(rlm.completion(context, root_prompt=query).response)

    return Driver(run)
