"""What may stand where DSPy wants an LM, and what is shown of a run."""

import dspy
import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters import RLM, InputError
from tests.dspy.scripted import playing

SUB = ("SUBMIT(llm_query('say it'))",)


def test_a_chat_model_as_sub_lm(model_server):
    model_server.script("sub", lambda messages, request: "said")
    chat = ChatOpenAI(model="sub", base_url=model_server.url, api_key="test", max_retries=0)
    with dspy.context(lm=playing(*SUB)):
        result = RLM("query -> answer", sub_lm=chat)(query="q")
    assert result.answer == "said"


def test_a_name_as_sub_lm(model_server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    model_server.script("sub", lambda messages, request: "said")
    with dspy.context(lm=playing(*SUB)):
        result = RLM("query -> answer", sub_lm="openai/sub")(query="q")
    assert result.answer == "said"


@pytest.mark.parametrize("wrong", [5, {"model": "x"}, "  ", dspy.LM])
def test_anything_else_is_refused_at_once(wrong):
    with pytest.raises(InputError, match="sub_lm=") as caught:
        RLM("query -> answer", sub_lm=wrong)
    assert "\n" not in str(caught.value)


def test_verbose_shows_the_run_on_standard_error(capsys):
    events = []
    with dspy.context(lm=playing("print('look')", "SUBMIT('here')")):
        RLM("query -> answer", verbose=True, on_event=events.append)(query="where?")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "print('look')" in shown.err
    assert "look\n" in shown.err
    assert "here" in shown.err
    assert "submitted | 2 iterations" in shown.err
    assert events[-1].type == "run_finished", "a listener of one's own gets the events too"


def test_without_it_nothing_is_shown(capsys):
    with dspy.context(lm=playing("SUBMIT('here')")):
        RLM("query -> answer")(query="where?")
    assert capsys.readouterr() == ("", "")
