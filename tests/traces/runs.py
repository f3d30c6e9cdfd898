"""A run with everything in it, for tests of what is made of one."""

import json

from langchain_openai import ChatOpenAI

from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.graph import RLMContext
from tests.server import ModelServer, cell, flaky, rate_limited

QUESTION = "Who speaks?"


def varied(model_server, chat, sandbox, *, said="found", trace=None):
    """The events of a run of two iterations: a failed cell, a batch, a tool, a child, a retry and a repair in it.

    Args:
        model_server: plays the models.
        chat: makes clients of it.
        sandbox: runs the cells.
        said: what models, tools and cells say.
        trace: where to keep it.
    """

    def lookup(word: str) -> str:
        """Look a word up."""
        return f"{word} is known"

    code = (
        "answers = llm_query_batched(['words ' * 400 + str(i) for i in range(3)])\n"
        "number = llm_query('a number', returns={'type': 'integer'})\n"
        f"print(lookup('whale'), {said!r})\n"
        "SUBMIT(rlm_query('inner?', 'text') + str(number) + answers[0])"
    )

    def root(messages, request):
        if "inner?" in json.dumps(messages[1]):
            return cell(f"SUBMIT(llm_query('deep ' + {said!r}))")
        turn = sum(message["role"] == "assistant" for message in messages)
        return "I first look.\n" + cell("print(len(context))\n1/0") if turn == 0 else cell(code)

    def sub(messages, request):
        asked = messages[-1]["content"]
        return "7" if "does not fit" in asked else "seven" if "number" in asked else said

    model_server.script("root", root)
    model_server.script("sub", flaky(rate_limited(0.01), sub))
    told = []
    graph = create_rlm_graph(
        chat("root"), chat("sub"), sandbox=sandbox, tools=[lookup], limits=Limits(max_depth=2), prices={"": (1, 2)},
        trace=trace,
    )  # fmt: skip
    graph.invoke({"query": f"{QUESTION}{said if said != 'found' else ''}", "context": "abc"},
                 context=RLMContext(on_event=told.append))  # fmt: skip
    return told


def varied_once(sandbox, **options):
    """The same with models of its own: for a fixture that several tests share."""
    with ModelServer() as server:

        def chat(name):
            return ChatOpenAI(model=name, base_url=server.url, api_key="test", max_retries=0)

        return varied(server, chat, sandbox, **options)
