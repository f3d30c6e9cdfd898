"""ChatRLM as a chat model: metadata, usage, options, caching, tracing, the router, structured answers."""

import asyncio
import copy
from typing import Annotated

import pytest
from langchain.chat_models import init_chat_model
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

from rlm_adapters import ChatRLM, ContentStore, InputError, Limits, ModelCallError, NoAnswerError, context_block
from tests.server import Reply, cell, server_error

CONTEXT_CELL = cell("SUBMIT(f'{type(context).__name__} {len(context)}')")


def answers(code):
    return lambda messages, request: cell(code)


# ------------------------------------------------------------------------------------------------ context


def ways(rlm):
    text = "y" * 50_000
    question = HumanMessage("How long?")
    return {
        "a long message": lambda: rlm().invoke([HumanMessage(text), question]),
        "a field": lambda: rlm(context=text).invoke([question]),
        "a field under bound tools": lambda: rlm(context=text).bind_tools([]).invoke([question]),
        "bind, then tools": lambda: rlm().bind(context=text).bind_tools([]).invoke([question]),
        "bind, then options": lambda: rlm().bind(context=text, seed=1).bind_tools([]).invoke([question]),
        "bind": lambda: rlm().bind(context=text).invoke([question]),
        "bind, async": lambda: asyncio.run(rlm().bind(context=text).ainvoke([question])),
        "a block": lambda: rlm().invoke([HumanMessage([context_block(text), {"type": "text", "text": "How long?"}])]),
        "config": lambda: rlm().invoke([question], {"configurable": {"rlm_context": text}}),
        "config through a chain": lambda: (RunnableLambda(lambda q: [q]) | rlm()).invoke(
            question, {"configurable": {"__rlm_context": text}}
        ),
        "config, streamed": lambda: next(rlm().stream([question], {"configurable": {"rlm_context": text}})),
        "config, v3": lambda: (
            rlm().stream_events([question], {"configurable": {"rlm_context": text}}, version="v3").output
        ),
    }


@pytest.mark.parametrize("way", list(ways(None)))
def test_the_context_comes_in_many_ways(model_server, rlm, way):
    model_server.script("root", lambda m, r: CONTEXT_CELL)
    assert ways(rlm)[way]().text == "str 50000"
    assert max(len(record.prompt) for record in model_server.requests) < 6_000


def test_an_agent_whose_model_has_a_context_works_on_it(model_server, rlm):
    from langchain.agents import create_agent

    def size(text: str) -> int:
        """Size of a text."""
        return len(text)

    model_server.script("root", answers("SUBMIT(f'{size(context[:5])} {len(context)} {rates}')"))
    for model in (
        rlm(context="y" * 50_000, inputs={"rates": 3}),
        rlm().bind(context="y" * 50_000, inputs={"rates": 3}),
    ):
        agent = create_agent(model, [size])
        assert agent.invoke({"messages": [("user", "How long?")]})["messages"][-1].text == "5 50000 3"


def test_a_call_s_own_context_goes_before_the_field_and_its_inputs_come_on_top(model_server, rlm):
    model_server.script("root", answers("SUBMIT(f'{context} {a} {b}')"))
    model = rlm(context="field", inputs={"a": 1, "b": 1})
    assert model.invoke("q").text == "field 1 1"
    assert model.invoke("q", context="call", inputs={"b": 2}).text == "call 1 2"
    assert model.bind(inputs={"b": 3}).invoke("q", {"configurable": {"rlm_context": "config"}}).text == "config 1 3"
    assert model.context == "field"


def test_documents_are_a_context(model_server, rlm):
    model_server.script("root", answers("SUBMIT(context[1]['page_content'] + context[1]['metadata']['source'])"))
    documents = [Document("one"), Document("two", metadata={"source": "b.txt"})]
    assert rlm().bind(context=documents).invoke("Which?").text == "twob.txt"


def test_an_image_reaches_a_sub_call_in_the_providers_form(model_server, rlm, chat):
    model_server.script("root", answers("SUBMIT(llm_query(['What is on it?', image]))"))
    model_server.script("eyes", lambda m, r: m[0]["content"][1]["image_url"]["url"])
    image = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
    message = HumanMessage([{"type": "text", "text": "What is on it?"}, image])
    assert rlm(sub_model=chat("eyes")).invoke([message]).text == "data:image/png;base64,AAAA"


# ------------------------------------------------------------------------------------------------ metadata and usage


def test_usage_is_the_sum_over_the_tree_with_a_split_by_model(model_server, rlm, chat):
    model_server.script("root", answers("SUBMIT(len(llm_query_batched(['a'] * 5)))"))
    model_server.script("sub", ["b"])
    prices = {"root": (1.0, 10.0), "sub": (0.1, 1.0)}
    message = rlm(sub_model=chat("sub"), prices=prices).invoke("q")
    metadata, usage = message.response_metadata, message.usage_metadata
    by_model = metadata["usage_by_model"]
    assert by_model["sub"]["calls"] == metadata["calls"] == 5
    for key in ("input_tokens", "output_tokens"):
        assert usage[key] == by_model["root"][key] + by_model["sub"][key] > 0
    stats = model_server.stats()["models"]
    assert usage["input_tokens"] == stats["root"]["prompt_tokens"] + stats["sub"]["prompt_tokens"]
    assert metadata["cost"] == pytest.approx(by_model["root"]["cost"] + by_model["sub"]["cost"])
    assert metadata["model_name"] == "rlm:root"
    assert metadata["model_provider"] == "rlm"
    assert metadata["finish_reason"] == "submitted"
    assert metadata["iterations"] == 1
    assert metadata["run_id"]


def test_a_limit_that_ends_the_run_is_in_the_metadata(model_server, rlm):
    model_server.script("root", lambda m, r: "It is probably 7." if "The run ends here" in str(m[-1]) else cell("1"))
    message = rlm(limits=Limits(max_iterations=2)).invoke("q")
    assert message.text == "It is probably 7."
    assert message.response_metadata["finish_reason"] == "max_iterations"
    assert "max_iterations" in message.response_metadata["error"]


def test_a_run_without_an_answer_raises(model_server, rlm):
    model_server.script("root", lambda m, r: "")
    with pytest.raises(NoAnswerError) as caught:
        rlm().invoke("q")
    assert caught.value.finish_reason == "error"
    assert caught.value.usage["input_tokens"] == model_server.stats()["models"]["root"]["prompt_tokens"] > 0


def test_a_run_without_an_answer_says_what_the_model_said(model_server, rlm):
    model_server.script("root", lambda m, r: "I will have a look.")
    with pytest.raises(NoAnswerError, match=r"no_code.*'I will have a look\.'.*direct_below"):
        rlm(direct_below=0).invoke("q")


def test_a_plain_answer_is_given_and_labelled(model_server, rlm):
    model_server.script("root", lambda m, r: "It is seven.")
    message = rlm(direct_below=0).invoke("q")
    assert message.text == "It is seven."
    assert message.response_metadata["finish_reason"] == "unsubmitted"
    assert "no_code" in message.response_metadata["error"]


def test_a_broken_model_raises_and_a_fallback_takes_over(model_server, rlm, chat):
    model_server.script("root", lambda m, r: server_error("gone", status=403))
    model_server.script("other", answers("SUBMIT('other')"))
    with pytest.raises(ModelCallError, match="gone"):
        rlm().invoke("q")
    assert rlm().with_fallbacks([rlm(model=chat("other"))]).invoke("q").text == "other"


# ------------------------------------------------------------------------------------------------ options


def test_options_go_where_they_belong(model_server, rlm, chat):
    model_server.script("root", answers("SUBMIT('one STOP two ' + llm_query('x'))"))
    model_server.script("sub", ["y"])
    model = rlm(sub_model=chat("sub"), temperature=0.25, max_tokens=500, stop=["STOP"])
    assert model.invoke("q", seed=7).text == "one "
    assert model.invoke("q", stop=["two"], temperature=0.5).text == "one STOP "
    bodies = [record.body for record in model_server.requests]
    assert [body["temperature"] for body in bodies] == [0.25, 0.25, 0.5, 0.5]
    assert {body.get("max_completion_tokens") or body.get("max_tokens") for body in bodies} == {500}
    assert [body.get("seed") for body in bodies] == [7, 7, None, None]
    assert not any("stop" in body for body in bodies)


def test_timeout_and_retries_are_of_the_inner_calls(model_server, rlm):
    model_server.script("root", lambda m, r: Reply(cell("SUBMIT(1)"), latency=5 if r.attempt == 0 else 0))
    assert rlm(timeout=0.3, max_retries=1).invoke("q").text == "1"
    assert len(model_server.requests) == 2


def test_another_root_model_for_one_call(model_server, rlm):
    model_server.script("other", answers("SUBMIT(llm_query('who?'))"))
    model_server.script("root", ["root"])
    message = rlm().invoke("q", model="other")
    assert (message.text, message.response_metadata["model_name"]) == ("root", "rlm:other")


def test_a_model_by_name(model_server):
    model_server.script("root", answers("SUBMIT('ok')"))
    assert (
        ChatRLM(model="openai:root", api_key="test", base_url=model_server.url, direct_below=0).invoke("q").text == "ok"
    )


def test_langchains_table_of_providers_is_closed():
    with pytest.raises(ValueError, match="Supported providers"):
        init_chat_model("rlm:root")


def test_it_is_configurable_by_name_at_run_time(model_server):
    model_server.script("root", answers("SUBMIT('root')"))
    model_server.script("other", answers("SUBMIT('other')"))
    model = ChatRLM(model="openai:root", api_key="test", base_url=model_server.url, direct_below=0)
    configurable = model.configurable_fields(model=ConfigurableField(id="root_lm"))
    chosen = init_chat_model("openai:other", api_key="test", base_url=model_server.url)
    assert configurable.invoke("q").text == "root"
    assert configurable.with_config(configurable={"root_lm": chosen}).invoke("q").text == "other"


def test_the_profile_is_that_of_the_inner_models_without_a_window(rlm, chat):
    eyes = chat("eyes", profile={"image_inputs": True, "max_input_tokens": 9_000, "max_output_tokens": 50})
    root = chat("root", profile={"image_inputs": False, "max_input_tokens": 9_000, "max_output_tokens": 100})
    profile = rlm(model=root, sub_model=eyes).profile
    assert profile["image_inputs"]
    assert profile["max_output_tokens"] == 100
    assert profile["structured_output"]
    assert "max_input_tokens" not in profile


def test_tokens_are_counted_as_the_root_model_counts(rlm):
    class Counting(FakeListChatModel):
        def get_token_ids(self, text):
            return list(range(len(text.split())))

    model = rlm(model=Counting(responses=[""]))
    assert model.get_num_tokens("one two three") == 3
    kept = trim_messages(
        [HumanMessage("a " * 50), HumanMessage("b " * 5)], max_tokens=20, token_counter=model, strategy="last"
    )
    assert [message.text for message in kept] == ["b " * 5]


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="sub_modle"):
        ChatRLM(model="openai:root", api_key="x", sub_modle=None)


def test_configurable_fields_keep_one_runtime(model_server, rlm, chat):
    model_server.script("root", lambda m, r: CONTEXT_CELL)
    model_server.script("other", answers("SUBMIT('other')"))
    model = rlm()
    configurable = model.configurable_fields(model=ConfigurableField(id="root_lm"))
    assert configurable.invoke("x" * 30_000).text == "str 30000"
    assert configurable.invoke("q", {"configurable": {"root_lm": chat("other")}}).text == "other"


def test_a_rate_limiter_counts_calls_of_the_chat_model(model_server, rlm):
    model_server.script("root", answers("SUBMIT(1)"))
    taken = []

    class Limiter(InMemoryRateLimiter):
        def acquire(self, *, blocking=True):
            taken.append("sync")
            return True

        async def aacquire(self, *, blocking=True):
            taken.append("async")
            return True

    model = rlm(rate_limiter=Limiter())
    model.batch(["a", "b"])
    list(model.stream("q"))
    asyncio.run(model.ainvoke("q"))
    asyncio.run(collect(model.astream("q")))
    assert taken == ["sync"] * 3 + ["async"] * 2


# ------------------------------------------------------------------------------------------------ caches


def test_a_cache_answers_the_same_question_and_no_other(model_server, rlm):
    model_server.script("root", lambda m, r: CONTEXT_CELL)
    cache = InMemoryCache()

    def ask(context, **options):
        return rlm(cache=cache, **options).bind(context=context).invoke("q").text

    assert ask("a" * 9) == ask("a" * 9) == "str 9"
    assert len(model_server.requests) == 1
    assert ask("a" * 10) == "str 10"
    ask("a" * 9, limits=Limits(max_iterations=3))
    ask("a" * 9, instructions="Be brief.")
    ask("a" * 9, temperature=0.5)
    assert len(model_server.requests) == 5


def test_a_big_context_is_in_no_trace_and_no_cache_key(rlm):
    model = rlm()
    kwargs = {"context": "secret" * 100_000, "inputs": {"more": [1, 2]}}
    assert len(model._get_llm_string(**kwargs)) < 5_000
    assert "secret" not in str(model._get_invocation_params(**kwargs))
    own = rlm(**kwargs)
    assert own._get_llm_string() == model._get_llm_string(**kwargs)
    assert "600,000" in str(own._get_invocation_params())
    assert "secret" not in str(own._get_invocation_params()) + repr(own)


# ------------------------------------------------------------------------------------------------ tracing


class Tree(BaseCallbackHandler):
    """Names and parents of runs, and whether each ended."""

    def __init__(self):
        self.runs, self.ended, self.tokens = {}, set(), []

    def _start(self, serialized, *args, run_id, parent_run_id=None, name=None, **kwargs):
        self.runs[run_id] = (name or (serialized or {}).get("name"), parent_run_id)

    on_chain_start = on_chat_model_start = on_tool_start = _start

    def _end(self, *args, run_id, **kwargs):
        self.ended.add(run_id)

    on_chain_end = on_llm_end = on_tool_end = on_llm_error = on_chain_error = _end

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append((token, kwargs["run_id"]))

    def path(self, run_id):
        name, parent = self.runs[run_id]
        return (*(self.path(parent) if parent else ()), name)

    def paths(self):
        return {self.path(run_id) for run_id in self.runs}


CALLS = {
    "invoke": lambda model, config: model.invoke("q", config),
    "ainvoke": lambda model, config: asyncio.run(model.ainvoke("q", config)),
    "stream": lambda model, config: list(model.stream("q", config)),
    "astream": lambda model, config: asyncio.run(collect(model.astream("q", config))),
    "v3": lambda model, config: list(model.stream_events("q", config, version="v3")),
}


async def collect(stream):
    return [item async for item in stream]


@pytest.mark.parametrize("call", list(CALLS))
def test_inner_runs_nest_under_the_callers_run(model_server, rlm, chat, call):
    model_server.script("root", answers("SUBMIT(llm_query('x'))"))
    model_server.script("sub", ["y"])
    tree = Tree()
    model = rlm(sub_model=chat("sub"))
    chain = model if call == "v3" else RunnableLambda(lambda q: q) | model  # LangChain has no v3 for sequences
    above = () if call == "v3" else ("RunnableSequence",)
    CALLS[call](chain, {"callbacks": [tree]})
    paths = tree.paths()
    assert (*above, "ChatRLM", "rlm", "generate_code", "ChatOpenAI") in paths
    assert (*above, "ChatRLM", "rlm", "recurse", "ChatOpenAI") in paths
    assert set(tree.runs) == tree.ended
    assert not tree.tokens or {tree.runs[run_id][0] for _, run_id in tree.tokens} == {"ChatRLM"}


@pytest.mark.parametrize("call", list(CALLS))
def test_tags_and_metadata_of_a_call_reach_inner_runs(model_server, rlm, call):
    model_server.script("root", answers("SUBMIT(1)"))
    seen = {}

    class Reader(BaseCallbackHandler):
        def on_chat_model_start(self, serialized, messages, *, tags=None, metadata=None, **kwargs):
            seen[metadata["ls_model_name"]] = "blue" in tags, metadata.get("user")

    CALLS[call](rlm(), {"callbacks": [Reader()], "tags": ["blue"], "metadata": {"user": "ann"}})
    assert seen == {"rlm:root": (True, "ann"), "root": (True, "ann")}


@pytest.mark.parametrize("call", list(CALLS))
def test_inner_runs_can_be_left_out(model_server, rlm, call):
    model_server.script("root", answers("SUBMIT(1)"))
    tree = Tree()
    CALLS[call](rlm(trace_inner=False), {"callbacks": [tree]})
    assert tree.paths() == {("ChatRLM",)}


# ------------------------------------------------------------------------------------------------ structured answers


class Person(BaseModel):
    """A person."""

    name: str = Field(description="full name")
    age: int

    @field_validator("age")
    @classmethod
    def _plausible(cls, age):
        if age > 150:
            raise ValueError("nobody is that old")
        return age


class PersonDict(TypedDict):
    """A person."""

    name: Annotated[str, ..., "full name"]
    age: Annotated[int, ..., "in years"]


SCHEMAS = {
    "pydantic": Person,
    "typeddict": PersonDict,
    "json schema": Person.model_json_schema(),
    "schema without a title": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    },
    "function": {"name": "person", "description": "A person.", "parameters": Person.model_json_schema()},
}


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("schema", list(SCHEMAS))
def test_an_answer_is_mended_inside_the_run(model_server, rlm, schema, method):
    model_server.script("root", [cell("SUBMIT(name='Ann', age='old')"), cell("SUBMIT(name='Ann', age=42)")])
    result = rlm().with_structured_output(SCHEMAS[schema], method=method, strict=True).invoke("Who?")
    assert dict(result) == {"name": "Ann", "age": 42}
    assert isinstance(result, Person) == (schema == "pydantic")
    assert len(model_server.requests) == 2


def test_a_validator_of_the_class_is_heard_in_the_run(model_server, rlm):
    model_server.script("root", [cell("SUBMIT(name='Ann', age=420)"), cell("SUBMIT(name='Ann', age=42)")])
    assert rlm().with_structured_output(Person).invoke("Who?").age == 42
    assert "nobody is that old" in model_server.requests[1].messages[-1]["content"]


def test_raw_and_parsed(model_server, rlm):
    model_server.script("root", [cell("SUBMIT(name='Ann', age=42)")])
    result = rlm().with_structured_output(Person, include_raw=True).invoke("Who?")
    assert result["parsed"] == Person(name="Ann", age=42)
    assert result["raw"].text == '{"name": "Ann", "age": 42}'
    assert result["parsing_error"] is None


def test_an_answer_that_never_fits_is_none(model_server, rlm):
    model_server.script("root", lambda m, r: cell("SUBMIT('no')"))
    with pytest.raises(NoAnswerError):
        rlm(limits=Limits(max_iterations=2)).with_structured_output(Person).invoke("Who?")


def test_arguments_that_are_not_known_are_refused(rlm):
    with pytest.raises(ValueError, match="unsupported arguments"):
        rlm().with_structured_output(Person, metod="x")
    with pytest.raises(InputError, match="give a pydantic class"):
        rlm().with_structured_output(5)


# ------------------------------------------------------------------------------------------------ chains


def test_the_same_chain_over_two_megabytes_fails_without_and_answers_with_an_rlm(model_server, chat, rlm):
    book = "It was a dark night. " * 100_000 + "The butler did it."
    code = cell("import re\nSUBMIT(re.search(r'The (\\w+) did it', str(context)).group(1))")
    model_server.script("root", lambda m, r: code, context_length=8_000)
    prompt = ChatPromptTemplate.from_messages([("system", "Answer from the book.\n\n{book}"), ("human", "{question}")])
    given = {"book": book, "question": "Who did it?"}
    assert len(book) > 2_000_000
    with pytest.raises(Exception, match="maximum context length is 8000 tokens"):
        (prompt | chat("root") | StrOutputParser()).invoke(given)
    assert (prompt | rlm(model=chat("root")) | StrOutputParser()).invoke(given) == "butler"


def test_copies_share_the_runtime(chat):
    model = ChatRLM(model=chat("root"))
    assert model.model_copy().runtime is copy.deepcopy(model.runtime) is model.runtime
    assert model.model_copy(update={"instructions": "Be brief."})._runs is model._runs


def test_a_copy_with_another_saver_or_store_uses_them(chat, sandbox, tmp_path):
    model = ChatRLM(model=chat("root"), sandbox=sandbox)
    saver, store = InMemorySaver(), ContentStore(tmp_path)
    copied = model.model_copy(update={"checkpointer": saver, "store": store})
    assert copied._runs.suspended.saver is saver
    assert copied._runs.graph.rlm.store is store
    assert model._runs.suspended.saver is not saver


def test_two_large_tables_that_look_alike_are_two_cache_keys():
    import numpy as np
    import pandas as pd

    from rlm_adapters.langchain.call import hashed

    one, other = pd.DataFrame({"a": range(1_000)}), pd.DataFrame({"a": range(1_000)})
    other.loc[500, "a"] = -1
    assert repr(one) == repr(other)
    keys = [
        hashed({"context": value})["context"] for value in (one, other, one.copy(), one.a.to_numpy(), np.arange(1_000))
    ]
    assert keys[0] == keys[2] != keys[1]
    assert keys[3] == keys[4]
