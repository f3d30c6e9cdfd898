"""Nothing blocks the event loop: async runs under blocking detection, with values of 100 kB wherever there are any.

LangGraph's own server detects blocking calls in this way, and ends the run.
"""

import json
import time

import fsspec
import pytest
from blockbuster import blockbuster_ctx
from fsspec.implementations.memory import MemoryFileSystem
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import ChatRLM, ContentStore, Limits, create_rlm_graph
from tests.server import cell

BIG = 100_000


class SlowFileSystem(MemoryFileSystem):
    """As far away as an object store: each operation takes a while, and blocks."""

    protocol = "slowly"


def _slow(name):
    plain = getattr(MemoryFileSystem, name)

    def slow(self, *args, **kwargs):
        time.sleep(0.02)
        return plain(self, *args, **kwargs)

    return slow


for _name in ("put_file", "open", "exists", "makedirs", "rm", "ls", "find"):
    setattr(SlowFileSystem, _name, _slow(_name))
fsspec.register_implementation("slowly", SlowFileSystem, clobber=True)


@pytest.fixture(params=["private", "local", "remote"])
def store(request, tmp_path):
    place = {"private": None, "local": tmp_path / "store", "remote": f"slowly://{request.node.name}"}[request.param]
    return ContentStore(place)


@pytest.fixture(params=["unsaved", "saved"])
def saver(request):
    return None if request.param == "unsaved" else InMemorySaver()


def big(letter):
    return letter * BIG


def config():
    return {"configurable": {"thread_id": "t"}}


CELLS = [
    cell(f"# {big('c')}\nprint('o' * {BIG})"),
    cell("answers = [llm_query('p' * 100_000 + str(i)) for i in range(3)]\nprint(answers[0])"),
    cell("child = rlm_query('child?', 'k' * 100_000)\nprint(child)"),
    cell("found = lookup('t' * 100_000)\nprint(found)"),
    cell("SUBMIT(answers[0] + found)"),
]


def root(messages, request):
    if "child?" in json.dumps(next(message for message in messages if message["role"] == "user")):
        return cell("print(context)\nSUBMIT(llm_query(context))")
    return CELLS[sum(message["role"] == "assistant" for message in messages)]


async def test_a_graph_with_sub_calls_a_child_and_a_tool(model_server, chat, store, saver):
    async def lookup(what: str) -> str:
        """Look it up."""
        return big("l")

    model_server.script("root", root)
    model_server.script("sub", lambda messages, request: big("s"))
    models = chat("root"), chat("sub")
    limits = Limits(max_depth=2)
    with blockbuster_ctx():
        graph = create_rlm_graph(*models, store=store, checkpointer=saver, tools=[lookup], limits=limits)
        result = await graph.ainvoke(
            {"query": "q" + big("q"), "context": big("x"), "inputs": {"more": [big("m")] * 3}}, config()
        )
        if saver is not None:
            await graph.aget_state(config())
            await graph.adelete_thread("t")
    assert result["answer"] == big("s") + big("l")
    graph.close()


async def test_the_options_of_a_call_and_their_schema(model_server, chat, sandbox):
    model_server.script("other", [cell("SUBMIT(3)")])
    root, offered, prices = chat("root"), {"other": chat("other")}, {"root": (1, 1), "other": (1, 1)}
    with blockbuster_ctx():
        graph = create_rlm_graph(root, models=offered, sandbox=sandbox, prices=prices)
        options = {"model": "other", "limits": {"max_cost": 1.0}, "output_type": {"type": "integer"}}
        assert (await graph.ainvoke({"query": "q", "context": big("x")}, context=options))["answer"] == 3
        assert graph.get_context_jsonschema()["properties"]
        assert graph.get_input_jsonschema()["properties"]


async def test_a_chat_model_whose_run_waits_for_tools(model_server, chat, store):
    def lookup(what: str) -> str:
        """Look it up."""
        return "never called here"

    model_server.script("root", [cell("found = lookup('t' * 100_000)\nprint(found)"), cell("SUBMIT(found)")])
    models = chat("root"), chat("sub")
    with blockbuster_ctx():
        model = ChatRLM(model=models[0], sub_model=models[1], store=store, direct_below=0).bind_tools([lookup])
        asked = [HumanMessage(big("d") + "\n\nWhat is found?")]
        first = await model.ainvoke(asked)
        (call,) = first.tool_calls
        assert call["args"] == {"what": "t" * BIG}
        answer = await model.ainvoke([*asked, first, ToolMessage(big("r"), tool_call_id=call["id"])])
    assert answer.text == big("r")


async def test_a_chat_model_that_streams_and_one_with_a_prompt_file(model_server, chat, store):
    model_server.script("root", [cell(f"SUBMIT('a' * {BIG})")])
    inner = chat("root")
    with blockbuster_ctx():
        model = ChatRLM(model=inner, store=store, direct_below=0)
        streamed = [chunk async for chunk in model.astream(big("d") + "\n\nWhat?")]
    assert "".join(chunk.text for chunk in streamed) == big("a")


async def test_a_dspy_module(model_server, store):
    dspy = pytest.importorskip("dspy")
    from rlm_adapters import RLM

    def root(messages, request):
        code = "print(document)\nSUBMIT(answer='y' * 100_000)"
        return f"[[ ## reasoning ## ]]\nlook\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"

    model_server.script("root", root)
    lm = dspy.LM("openai/root", api_base=model_server.url, api_key="x", cache=False)
    module = RLM("document: str, question: str -> answer: str", store=store)
    with dspy.context(lm=lm):
        await module.acall(document="warm", question="imports litellm, which reads files")
        with blockbuster_ctx():
            result = await module.acall(document=big("x"), question="q")
    assert result.answer == big("y")


async def test_the_detector_detects(tmp_path):
    store = ContentStore(tmp_path)
    with blockbuster_ctx(), pytest.raises(Exception, match="Blocking"):
        store.put("x")
