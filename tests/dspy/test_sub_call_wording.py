"""The wording of the sub-calls as a predictor of its own, in both frameworks."""

from __future__ import annotations

import dspy
import pytest

from rlm_adapters import RLM, ChatRLM, InputError, create_rlm_graph
from tests.dspy.scripted import scripted_lm
from tests.dspy.test_artefact import Scripted, as_dicts

CELL = "SUBMIT(llm_query('Say hello'))"


def script(prompt):
    if "repl_history" in prompt:
        return {"reasoning": "r", "code": CELL}
    return {"answer": "LEARNED hello"} if "LEARNED" in prompt else {"answer": "hello"}


def taught(signature="query -> answer", **options):
    rlm = RLM(signature, sub_call=True, **options)
    rlm.sub_call.signature = rlm.sub_call.signature.with_instructions("LEARNED wording.")
    rlm.sub_call.demos = [dspy.Example(prompt="Say goodbye", answer="goodbye")]
    return rlm


def test_it_is_a_named_predictor_that_words_every_sub_call():
    lm = scripted_lm(script)
    rlm = taught()
    assert [name for name, _ in rlm.named_predictors()] == ["generate_action", "extract", "sub_call"]
    with dspy.context(lm=lm, trace=[]):
        assert rlm(query="q").answer == "LEARNED hello"
        assert [entry[0] for entry in dspy.settings.trace] == [rlm.generate_action, rlm.sub_call]
    assert "Say goodbye" in lm.prompts[1]


async def test_the_sub_lm_answers_it_also_in_the_async_form():
    sub = scripted_lm(script, "scripted/sub")
    with dspy.context(lm=scripted_lm(script)):
        result = await taught(sub_lm=sub).acall(query="q")
    assert result.answer == "LEARNED hello"
    assert len(sub.prompts) == 1
    assert result.rlm["usage"]["by_model"]["scripted/sub"]["calls"] == 1


def test_without_it_a_prompt_goes_as_the_cell_wrote_it():
    lm = scripted_lm(lambda prompt: script(prompt) if "repl_history" in prompt else prompt)
    with dspy.context(lm=lm):
        assert RLM("query -> answer")(query="q").answer.strip() == "Say hello"


def test_the_graph_sends_the_very_messages_that_dspy_sends(tmp_path):
    taught("context, query -> answer").save(tmp_path / "file.json")
    program = RLM("context, query -> answer", sub_call=True)
    program.load(tmp_path / "file.json")
    lm = scripted_lm(script)
    with dspy.context(lm=lm):
        assert program(context="c", query="q").answer == "LEARNED hello"
    chat = Scripted(script=script)
    result = create_rlm_graph(chat, prompt=tmp_path / "file.json").invoke({"query": "q", "context": "c"})
    assert result["answer"] == "LEARNED hello"
    assert [as_dicts(messages) for messages in chat.seen] == [entry["messages"] for entry in lm.history]
    model = ChatRLM(model=Scripted(script=script), prompt=str(tmp_path / "file.json"))
    assert model.invoke("q").text == "LEARNED hello"


def test_a_model_that_a_caller_chooses_is_asked_in_the_words_of_the_file(tmp_path):
    taught("context, query -> answer").save(tmp_path / "file.json")
    own, other = Scripted(script=script), Scripted(script=script)
    graph = create_rlm_graph(own, prompt=tmp_path / "file.json", models={"other": other})
    given = {"query": "q", "context": "c"}
    assert graph.invoke(given, context={"model": "other"})["answer"] == "LEARNED hello"
    assert (len(own.seen), len(other.seen)) == (0, 2)
    chosen = [as_dicts(messages) for messages in other.seen]
    assert graph.invoke(given)["answer"] == "LEARNED hello"
    assert [as_dicts(messages) for messages in own.seen] == chosen
    assert graph.invoke(given, context={"sub_model": "other"})["answer"] == "LEARNED hello"
    assert (len(own.seen), len(other.seen)) == (3, 3)


def test_a_reply_without_the_field_is_the_answer(tmp_path):
    taught().save(tmp_path / "file.json")
    chat = Scripted(script=lambda prompt: script(prompt) if "repl_history" in prompt else "just hello")
    graph = create_rlm_graph(chat, prompt=tmp_path / "file.json")
    assert graph.invoke({"query": "q"})["answer"] == "just hello"


def test_files_with_and_without_it_are_exchanged(tmp_path):
    taught().save(tmp_path / "with.json")
    dspy.RLM("query -> answer").load(tmp_path / "with.json")
    RLM("query -> answer").load(tmp_path / "with.json")
    dspy.RLM("query -> answer").save(tmp_path / "without.json")
    taught().load(tmp_path / "without.json")


@pytest.mark.parametrize("signature", ["a, b -> c", "prompt -> answer: list[str]", "prompt -> a, b"])
def test_it_takes_one_text_and_gives_one(signature):
    with pytest.raises(InputError, match="one input and one text output"):
        RLM("query -> answer", sub_call=signature)
