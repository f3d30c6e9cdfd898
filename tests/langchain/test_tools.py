"""Tools: a call in a cell leaves the run, and its result comes back into the same cell."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import HumanMessage, ToolMessage, messages_from_dict, messages_to_dict
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from rlm_adapters import ContentStore, InputError, NoAnswerError
from tests.server import cell, server_error


@tool
def weather(city: str, unit: str = "C") -> str:
    """Weather of a city.

    Args:
        city: its name.
    """
    return {"Bern": "rain", "Rome": "sun"}.get(city, "fog") + unit


@tool
def fails(reason: str) -> str:
    """Fails."""
    raise ValueError(reason)


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """Call a model in either form."""

    def invoke(model, *args, **kwargs):
        if request.param == "sync":
            return model.invoke(*args, **kwargs)
        return asyncio.run(model.ainvoke(*args, **kwargs))

    return invoke


def results(message, **values):
    return [ToolMessage(values[call["name"]], tool_call_id=call["id"]) for call in message.tool_calls]


def test_the_same_cell_goes_on_with_its_variables(model_server, rlm, ask):
    code = "before = llm_query('one')\nw = weather('Bern', unit='F')\nSUBMIT(before + w + str(len(context)))"
    model_server.script("root", lambda m, r: cell(code) if len(m) > 1 else "ONE ")
    model = rlm().bind_tools([weather])
    question = [HumanMessage(["x" * 30_000, "How long, and the weather in Bern?"])]
    first = ask(model, question)
    assert [(c["name"], c["args"]) for c in first.tool_calls] == [("weather", {"city": "Bern", "unit": "F"})]
    assert first.response_metadata["finish_reason"] == "tool_calls"
    assert len(first.tool_calls[0]["id"]) <= 40
    second = ask(model, [*question, first, *results(first, weather="rain")])
    assert second.text == "ONE rain30000"
    assert len(model_server.requests) == 2
    used = [message.usage_metadata["total_tokens"] for message in (first, second)]
    assert used[0] > 0
    assert used[1] == 0, "a resumed run reports what it used since"


def test_the_prompt_tells_tools_with_types_and_descriptions(model_server, rlm):
    model_server.script("root", [cell("SUBMIT(1)")])
    rlm().bind_tools([weather]).invoke("q")
    prompt = model_server.requests[0].messages[0]["content"]
    assert "`weather(city, unit=..)`: Weather of a city." in prompt
    assert "city: str" in prompt


def test_calls_from_threads_leave_together(model_server, rlm, ask):
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool:\n    got = list(pool.map(weather, ['Bern', 'Rome']))\nSUBMIT(got)"
    )
    model_server.script("root", [cell(code)])
    model = rlm().bind_tools([weather])
    first = ask(model, "Weather?")
    assert [call["args"] for call in first.tool_calls] == [{"city": "Bern"}, {"city": "Rome"}]
    back = [ToolMessage(call["args"]["city"][0], tool_call_id=call["id"]) for call in reversed(first.tool_calls)]
    assert ask(model, [HumanMessage("Weather?"), first, *back]).text == '["B", "R"]'


def test_calls_leave_in_the_order_of_the_cell_whichever_thread_is_first(model_server, rlm, monkeypatch):
    from rlm_adapters.langchain import tools

    interrupt = tools.interrupt

    def later_calls_first(value):
        time.sleep((7 - value["position"]) / 50)
        return interrupt(value)

    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool:\n    got = list(pool.map(weather, 'abcdefgh'))\nSUBMIT(got)"
    )
    model_server.script("root", [cell(code)])
    monkeypatch.setattr(tools, "interrupt", later_calls_first)
    model = rlm().bind_tools([weather])
    first = model.invoke("Weather?")
    assert [call["args"]["city"] for call in first.tool_calls] == list("abcdefgh")
    back = [ToolMessage(call["args"]["city"].upper(), tool_call_id=call["id"]) for call in first.tool_calls]
    assert model.invoke([HumanMessage("Weather?"), first, *back]).text == str(list("ABCDEFGH")).replace("'", '"')


def test_without_parallel_calls_they_leave_one_by_one(model_server, rlm):
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool:\n    got = list(pool.map(weather, ['Bern', 'Rome']))\nSUBMIT(got)"
    )
    model_server.script("root", [cell(code)])
    model = rlm().bind_tools([weather], parallel_tool_calls=False)
    history = [HumanMessage("Weather?")]
    for city in ("Bern", "Rome"):
        message = model.invoke(history)
        assert [call["args"]["city"] for call in message.tool_calls] == [city]
        history += [message, *results(message, weather=city.lower())]
    assert model.invoke(history).text == '["bern", "rome"]'


def test_a_tool_error_is_raised_in_the_cell(model_server, rlm, ask):
    code = "try:\n    fails('x')\nexcept Exception as e:\n    SUBMIT(f'{type(e).__name__}: {e}')"
    model_server.script("root", [cell(code)])
    model = rlm().bind_tools([fails])
    first = ask(model, "q")
    error = ToolMessage("no such thing", tool_call_id=first.tool_calls[0]["id"], status="error")
    answer = ask(model, [HumanMessage("q"), first, error]).text
    assert "ToolError" in answer
    assert "no such thing" in answer


def test_a_tool_result_with_an_image_comes_back_as_blocks(model_server, rlm):
    model_server.script("root", [cell("image = weather('Bern')\nSUBMIT(llm_query(['What is it?', image[0]]))")])
    model_server.script("sub", lambda m, r: m[0]["content"][1]["type"])
    model = rlm(sub_model=rlm().model.model_copy(update={"model_name": "sub"})).bind_tools([weather])
    first = model.invoke("q")
    image = [{"type": "image", "base64": "AAAA", "mime_type": "image/png"}]
    back = ToolMessage(image, tool_call_id=first.tool_calls[0]["id"])
    assert model.invoke([HumanMessage("q"), first, back]).text == "image_url"


def test_messages_that_were_stored_as_json_resume_too(model_server, rlm):
    model_server.script("root", [cell("SUBMIT(weather('Bern'))")])
    model = rlm().bind_tools([weather])
    first = model.invoke("q")
    stored = messages_from_dict(messages_to_dict([HumanMessage("q"), first, *results(first, weather="rain")]))
    stored[1].response_metadata.clear()
    assert model.invoke(stored).text == "rain"
    assert len(model_server.requests) == 1


def by_history(messages, request):
    if "has been done for this message already" in messages[1]["content"]:
        return cell("SUBMIT('from the history')")
    return cell("SUBMIT(weather('Bern'))")


@pytest.mark.parametrize("later", ["no tools", "none of them", "another"])
def test_a_result_is_taken_when_its_tool_is_no_longer_offered(model_server, rlm, ask, later):
    model_server.script("root", [cell("SUBMIT(weather('Bern', unit='F') + '!')")])
    model = rlm()
    first = ask(model.bind_tools([weather]), "q")
    again = {
        "no tools": model,
        "none of them": model.bind_tools([weather], tool_choice="none"),
        "another": model.bind_tools([fails]),
    }[later]
    assert ask(again, [HumanMessage("q"), first, *results(first, weather="rain")]).text == "rain!"
    assert len(model_server.requests) == 1


def test_a_lost_run_starts_afresh_with_the_history(model_server, rlm, ask):
    model_server.script("root", by_history)
    first = ask(rlm().bind_tools([weather]), "q")
    answer = ask(rlm().bind_tools([weather]), [HumanMessage("q"), first, *results(first, weather="rain")])
    assert answer.text == "from the history"
    assert "rain" in model_server.requests[-1].messages[1]["content"]


def test_a_suspended_run_expires(model_server, rlm):
    model_server.script("root", by_history)
    model = rlm(suspended_seconds=1e-6)
    first = model.bind_tools([weather]).invoke("q")
    answer = model.bind_tools([weather]).invoke([HumanMessage("q"), first, *results(first, weather="rain")])
    assert answer.text == "from the history"
    assert not model._runs.suspended.saver.storage


def test_only_so_many_runs_are_kept(model_server, rlm):
    model_server.script("root", by_history)
    model = rlm(max_suspended=2)
    for _ in range(5):
        model.bind_tools([weather]).invoke("q")
    assert len(model._runs.suspended) <= 3


def test_a_finished_run_leaves_nothing_saved(model_server, rlm):
    model_server.script("root", [cell("SUBMIT(weather('Bern'))")])
    model = rlm()
    bound = model.bind_tools([weather])
    first = bound.invoke("q")
    bound.invoke([HumanMessage("q"), first, *results(first, weather="rain")])
    runs = model._runs
    assert len(runs.suspended) == 0
    assert not runs.suspended.saver.storage
    assert len(runs.graph.rlm.sessions) == 0


def test_with_a_shared_saver_and_store_another_process_can_go_on(model_server, rlm, tmp_path):
    model_server.script("root", [cell("a = llm_query('x')\nSUBMIT(a + weather('Bern'))")])
    model_server.script("sub", ["paid once "])
    shared = {"checkpointer": InMemorySaver(), "store": ContentStore(tmp_path)}
    sub = rlm().model.model_copy(update={"model_name": "sub"})
    first = rlm(sub_model=sub, **shared).bind_tools([weather]).invoke("q")
    second = rlm(sub_model=sub, **shared).bind_tools([weather])
    assert second.invoke([HumanMessage("q"), first, *results(first, weather="rain")]).text == "paid once rain"
    assert len(model_server.requests) == 2


def test_a_resume_that_failed_can_be_tried_again(model_server, rlm):
    replies = {"fail": True}

    def root(messages, request):
        if len([m for m in messages if m["role"] == "assistant"]) == 0:
            return cell("w = weather('Bern')\nprint(w)")
        return server_error("gone", status=403) if replies["fail"] else cell("SUBMIT(w)")

    model_server.script("root", root)
    model = rlm().bind_tools([weather])
    first = model.invoke("q")
    history = [HumanMessage("q"), first, *results(first, weather="rain")]
    with pytest.raises(Exception, match="gone"):
        model.invoke(history)
    replies["fail"] = False
    assert model.invoke(history).text == "rain"


@pytest.mark.parametrize(
    "choice", ["any", "required", True, "weather", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_forced_choice_refuses_other_answers(model_server, rlm, choice):
    model_server.script("root", [cell("SUBMIT('no need')"), cell("SUBMIT(weather('Bern'))")])
    message = rlm().bind_tools([weather, fails], tool_choice=choice).invoke("Hello")
    assert message.tool_calls[0]["name"] == "weather"
    assert "call" in model_server.requests[1].messages[-1]["content"]
    offered = model_server.requests[0].messages[0]["content"]
    assert ("fails(" in offered) == (choice in ("any", "required", True))


def test_a_forced_choice_that_is_never_made_is_no_answer(model_server, rlm):
    from rlm_adapters import Limits

    model_server.script("root", lambda m, r: cell("SUBMIT('no')"))
    with pytest.raises(NoAnswerError):
        rlm(limits=Limits(max_iterations=2)).bind_tools([weather], tool_choice="any").invoke("Hello")


def test_choice_none_offers_nothing(model_server, rlm):
    model_server.script("root", [cell("SUBMIT(1)")])
    rlm().bind_tools([weather], tool_choice="none").invoke("Hello")
    assert "weather" not in model_server.requests[0].messages[0]["content"]


def test_an_unknown_choice_is_named(rlm):
    with pytest.raises(InputError, match=r"'wether' is not a bound tool; bound tools: weather"):
        rlm().bind_tools([weather], tool_choice="wether")


def test_a_tool_of_the_provider_cannot_be_bound(rlm):
    with pytest.raises(InputError, match="runs at the provider"):
        rlm().bind_tools([{"type": "web_search_preview"}])


def test_names_that_are_no_python_names_are_mapped(model_server, rlm):
    model_server.script("root", [cell("SUBMIT(get_weather_now(city='Bern'))")])
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    message = rlm().bind_tools([{"name": "get-weather.now", "description": "W.", "parameters": schema}]).invoke("q")
    assert message.tool_calls[0]["name"] == "get-weather.now"


def test_strict_tools_check_arguments_before_they_leave(model_server, rlm):
    model_server.script("root", [cell("weather(city=5, unit='C')"), cell("SUBMIT(weather(city='Bern', unit='C'))")])
    message = rlm().bind_tools([weather], strict=True).invoke("q")
    assert message.tool_calls[0]["args"]["city"] == "Bern"
    assert "5 is not of type 'string'" in model_server.requests[1].messages[-1]["content"]


# ------------------------------------------------------------------------------------------------ inside the loop


def test_in_repl_mode_tools_run_inside_the_loop(model_server, rlm, ask):
    model_server.script("root", [cell("SUBMIT(weather('Rome'))")])
    assert ask(rlm(tool_mode="repl").bind_tools([weather]), "q").text == "sunC"


def test_a_schema_cannot_run_inside_the_loop(rlm):
    with pytest.raises(InputError):
        rlm(tool_mode="repl").bind_tools([{"name": "f", "description": "d", "parameters": {}}])


def test_tools_of_the_model_itself_run_inside_the_loop_beside_those_of_an_agent(model_server, rlm):
    model_server.script("root", [cell("SUBMIT(double(21) if weather('Bern') == 'rain' else 0)")])

    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    model = rlm(tools=[double]).bind_tools([weather])
    first = model.invoke("q")
    assert model.invoke([HumanMessage("q"), first, *results(first, weather="rain")]).text == "42"


@pytest.mark.parametrize("bound", [[], [weather]])
def test_a_tool_inside_the_loop_that_interrupts_is_named(model_server, rlm, ask, bound):
    def confirm(question: str) -> str:
        """Ask a human."""
        return interrupt(question)

    model_server.script("root", [cell("SUBMIT(confirm('sure?'))")])
    model = rlm(tools=[confirm])
    with pytest.raises(InputError, match=r"interrupt\('sure\?'\), which cannot be answered"):
        ask(model.bind_tools(bound), "q")
    assert len(model._runs.graph.rlm.sessions) == 0


# ------------------------------------------------------------------------------------------------ agents


def test_an_agent_calls_tools_through_the_run(model_server, rlm, ask):
    code = "a = weather('Bern')\nb = weather('Rome')\nSUBMIT(f'{a} and {b}')"
    model_server.script("root", [cell(code)])
    agent = create_agent(rlm(), [weather])
    state = ask(agent, {"messages": [HumanMessage("The weather in Bern and Rome?")]})
    assert state["messages"][-1].text == "rainC and sunC"
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai", "tool", "ai"]
    assert len(model_server.requests) == 1


def test_an_agent_handles_a_failing_tool(model_server, rlm):
    code = "try:\n    SUBMIT(fails('broken'))\nexcept ToolError as e:\n    SUBMIT('sorry: ' + str(e))"
    model_server.script("root", [cell(code)])

    def failing(request, handler):
        try:
            return handler(request)
        except ValueError as error:
            return ToolMessage(str(error), tool_call_id=request.tool_call["id"], status="error")

    from langchain.agents.middleware import wrap_tool_call

    agent = create_agent(rlm(), [fails], middleware=[wrap_tool_call(failing)])
    assert "broken" in agent.invoke({"messages": [HumanMessage("q")]})["messages"][-1].text


def test_a_call_that_a_human_edits_or_refuses_comes_back_into_the_cell(model_server, rlm):
    code = "try:\n    SUBMIT(weather('Bern'))\nexcept ToolError as e:\n    SUBMIT(f'refused: {e}')"
    model_server.script("root", [cell(code)])
    asked = HumanInTheLoopMiddleware(interrupt_on={"weather": True})
    agent = create_agent(rlm(), [weather], checkpointer=InMemorySaver(), middleware=[asked])
    edited = {"name": "weather", "args": {"city": "Rome"}}
    answers = []
    for thread, decision in enumerate(({"type": "edit", "edited_action": edited}, {"type": "reject", "message": "no"})):
        config = {"configurable": {"thread_id": str(thread)}}
        agent.invoke({"messages": [HumanMessage("q")]}, config)
        state = agent.invoke(Command(resume={"decisions": [decision]}), config)
        answers.append(state["messages"][-1].text)
    assert "sunC" in answers[0]
    assert answers[1].startswith("refused: ")
    assert len(model_server.requests) == 2


def test_calls_of_child_runs_leave_together_and_come_back_to_each(model_server, rlm):
    from rlm_adapters import Limits

    def root(messages, request):
        for city in ("Bern", "Rome"):
            if f"the weather in {city}" in messages[1]["content"]:
                return cell(f"SUBMIT('{city} ' + weather('{city}'))")
        return cell("SUBMIT(rlm_query_batched([f'the weather in {c}' for c in ('Bern', 'Rome')]))")

    model_server.script("root", root)
    agent = create_agent(rlm(limits=Limits(max_depth=2)), [weather])
    messages = agent.invoke({"messages": [HumanMessage("q")]})["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "tool", "ai"]
    assert messages[-1].text == '["Bern rainC", "Rome sunC"]'


def test_a_user_who_says_something_else_is_answered_afresh(model_server, rlm):
    model_server.script(
        "root", lambda m, r: cell("SUBMIT('all right')" if "never mind" in str(m) else "SUBMIT(weather('Bern'))")
    )
    model = rlm().bind_tools([weather])
    first = model.invoke("q")
    history = [HumanMessage("q"), first, *results(first, weather="rain"), HumanMessage("never mind")]
    assert model.invoke(history).text == "all right"


class Report(BaseModel):
    city: str
    degrees: int


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
def test_an_agent_gives_a_structured_response(model_server, rlm, strategy):
    code = {
        ToolStrategy: "w = weather('Bern')\nReport(city='Bern', degrees=len(w))",
        ProviderStrategy: "w = weather('Bern')\nSUBMIT(city='Bern', degrees=len(w))",
    }[strategy]
    model_server.script("root", [cell(code)])
    agent = create_agent(rlm(), [weather], response_format=strategy(Report))
    state = agent.invoke({"messages": [HumanMessage("q")]})
    assert state["structured_response"] == Report(city="Bern", degrees=5)


def test_agents_in_threads_do_not_mix(model_server, rlm):
    def root(messages, request):
        city = messages[1]["content"].split("weather in ")[1].split("?")[0]
        return cell(f"SUBMIT('{city}: ' + weather('{city}'))")

    model_server.script("root", root)
    agent = create_agent(rlm(), [weather])
    cities = ["Bern", "Rome", "Oslo"] * 4

    def run(city):
        return agent.invoke({"messages": [HumanMessage(f"weather in {city}?")]})["messages"][-1].text

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(run, cities))
    assert answers == [f"{city}: {weather.invoke({'city': city})}" for city in cities]
