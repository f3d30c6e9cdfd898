"""predict-rlm: a subclass of dspy.RLM with async cells in Deno.

By default each run installs packages into Pyodide from a CDN before its first cell. That is off here, so its start is
faster than what its users see.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers.driver import Config, Dialect, Driver

_ASK = "predict('text: str -> answer: str', text={prompt})"

DIALECT = Dialect(
    title="predict-rlm",
    packages=("predict-rlm", "deno"),
    version_of="predict-rlm",
    way="plan",
    context="context",
    final="SUBMIT(answer={answer})",
    ask=f"(await {_ASK}).answer",
    batch="[one.answer for one in await __import__('asyncio').gather(*["
    + _ASK.format(prompt="one")
    + " for one in {prompts}])]",
    sub_reply='{{"answer": "{text}"}}',
    deno=True,
    limits="300 s by default",
)


def make(config: Config) -> Driver:
    """A module for each run."""
    import dspy
    from predict_rlm import PredictRLM
    from predict_rlm.backends.jspi.backend import JspiBackend

    lm = dspy.LM(f"openai/{config.model}", api_base=config.base_url, api_key=config.api_key, cache=False)

    def new() -> Any:
        return PredictRLM(
            "query: str, context: str -> answer: str",
            lm=lm,
            sub_lm=lm,
            verbose=False,
            interpreter=JspiBackend(preinstall_packages=False, exec_timeout=config.cell_seconds or 300),
            max_iterations=config.max_iterations,
            max_llm_calls=config.max_calls,
        )

    def run(query: str, context: str) -> str:
        return str(new()(query=query, context=context).answer)

    async def arun(query: str, context: str) -> str:
        return str((await new().acall(query=query, context=context)).answer)

    return Driver(run, arun)
