"""minrlm: ``exec()`` in the process, its form without Docker. It refuses FINAL() until a cell has read its input."""

from __future__ import annotations

from benchmarks.peers.driver import Config, Dialect, Driver

DIALECT = Dialect(
    title="minrlm",
    packages=("minrlm",),
    version_of="minrlm",
    way="python",
    context="input_0",
    final="_ = input_0[:1]\nFINAL({answer})",
    ask="sub_llm({prompt}, '')",
    batch="sub_llm_batch([(one, '') for one in {prompts}])",
    limits="none without Docker",
)


def make(config: Config) -> Driver:
    """One object for each run: it is not re-entrant."""
    from minrlm import RLM

    def run(query: str, context: str) -> str:
        rlm = RLM(
            model=config.model,
            base_url=config.base_url,
            api_key=config.api_key,
            max_iterations=config.max_iterations,
            max_sub_llm_calls=config.max_calls,
        )
        return str(rlm.completion(query, context).response)

    return Driver(run)
