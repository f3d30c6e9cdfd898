"""No engine at all: the openai client, one thread and ``exec()``. The floor of every measure."""

from __future__ import annotations

import contextlib
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.peers.driver import Config, Dialect, Driver

DIALECT = Dialect(
    title="exec()",
    packages=("openai",),
    version_of="openai",
    way="python",
    context="context",
    final="FINAL({answer})",
    ask="llm_query({prompt})",
    batch="llm_query_batched({prompts})",
)


def make(config: Config) -> Driver:
    """One loop, as short as it can be."""
    import openai

    client = openai.OpenAI(base_url=config.base_url, api_key=config.api_key)

    def ask(messages: list[Any]) -> str:
        said = client.chat.completions.create(model=config.model, messages=messages).choices[0].message.content
        return said or ""

    def run(query: str, context: str) -> str:
        answers: list[str] = []

        def llm_query(prompt: str) -> str:
            return ask([{"role": "user", "content": prompt}])

        def llm_query_batched(prompts: list[str]) -> list[str]:
            with ThreadPoolExecutor(min(len(prompts), 100)) as pool:
                return list(pool.map(llm_query, prompts))

        names = {
            "context": context,
            "FINAL": answers.append,
            "llm_query": llm_query,
            "llm_query_batched": llm_query_batched,
        }
        messages = [{"role": "user", "content": query}]
        while not answers:
            reply = ask(messages)
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                try:
                    exec(reply.split("```python\n")[1].split("```")[0], names)
                except Exception as error:  # noqa: BLE001 - the model is to see it
                    print(repr(error))
            messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": output.getvalue()}]
        return answers[0]

    return Driver(run)
