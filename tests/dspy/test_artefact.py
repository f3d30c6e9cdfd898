"""One file for both frameworks."""

from __future__ import annotations

import json
from typing import Any, Literal

import dspy
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel, Field

from rlm_adapters import RLM, ChatRLM, InputError, Limits, RestrictedPythonInterpreter, create_rlm_graph
from rlm_adapters.prompts.artefact import PromptArtefact
from tests.dspy.scripted import fields_text, scripted_lm, step_of

TEXT = "count me\n" * 3_000
STEPS = [
    {"reasoning": "look", "code": "n = context.count('count')\nprint(n, context[:40])"},
    {"reasoning": "wrong type", "code": "SUBMIT('many', 'sure')"},
    {"reasoning": "fails", "code": "print('so far')\n1 / 0"},
    {"reasoning": "done", "code": "```python\nSUBMIT(n, 'sure')\n```"},
]
EXTRACTED = {"number": 7, "certainty": "guess"}


class Count(dspy.Signature):
    """Count what the question asks for."""

    context: str = dspy.InputField(desc="a long text")
    question: str = dspy.InputField()
    number: int = dspy.OutputField(desc="how many")
    certainty: Literal["sure", "guess"] = dspy.OutputField()


class Scripted(BaseChatModel):
    """A chat model that plays the same script, and keeps what it was sent."""

    script: Any
    seen: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        self.seen.append(messages)
        answer = self.script("\n".join(str(message.text) for message in messages))
        text = answer if isinstance(answer, str) else fields_text(answer)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def script(prompt: str) -> Any:
    return STEPS[step_of(prompt)] if "`[[ ## code ## ]]`" in prompt else EXTRACTED


def optimised(signature: Any = Count, **options: Any) -> RLM:
    """A program with learned instructions and a demo."""
    rlm = RLM(signature, **options)
    rlm.generate_action.signature = rlm.generate_action.signature.with_instructions(
        "LEARNED: " + rlm.generate_action.signature.instructions
    )
    demo = dspy.Example(
        variables_info="v",
        repl_history="=== shown ===",
        iteration="2/20",
        reasoning="as shown",
        code="SUBMIT(1, 'sure')",
    )
    rlm.generate_action.demos = [demo]
    rlm.extract.demos = [dspy.Example(variables_info="v", repl_history="h", number=3, certainty="sure")]
    return rlm


def dspy_messages(program: Any, lm: Any, **inputs: Any) -> list[list[dict[str, Any]]]:
    with dspy.context(lm=lm):
        program(**inputs)
    return [entry["messages"] for entry in lm.history]


def as_dicts(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    roles = {"human": "user", "ai": "assistant", "system": "system"}
    return [{"role": roles[message.type], "content": message.content} for message in messages]


@pytest.mark.parametrize("steps", [20, 3], ids=["submitted", "extracted"])
def test_the_graph_sends_the_very_messages_that_dspy_sends(tmp_path, steps):
    """System message, demos, every step with errors and refusals, and the extract step: byte for byte."""
    optimised().save(tmp_path / "optimised.json")
    program = RLM(Count, max_iters=steps)
    program.load(tmp_path / "optimised.json")
    theirs = dspy_messages(program, scripted_lm(script), context=TEXT, question="How many?")
    chat = Scripted(script=script)
    graph = create_rlm_graph(chat, prompt=tmp_path / "optimised.json", limits=Limits(max_iterations=steps))
    result = graph.invoke({"query": "How many?", "context": TEXT})
    assert [as_dicts(messages) for messages in chat.seen] == theirs
    assert len(theirs) == 4
    assert "LEARNED" in theirs[0][0]["content"]
    assert "as shown" in str(theirs[0])
    wanted = EXTRACTED if steps == 3 else {"number": 3_000, "certainty": "sure"}
    assert result["answer"] == wanted


def test_a_file_of_dspys_own_rlm_is_as_good(tmp_path):
    own = dspy.RLM("context, query -> answer: int")
    own.generate_action.signature = own.generate_action.signature.with_instructions(
        own.generate_action.signature.instructions + "\nBe brief."
    )
    own.save(tmp_path / "theirs.json")
    replies = ["SUBMIT('three')", "SUBMIT(3)"]
    chat = Scripted(script=lambda prompt: {"reasoning": "r", "code": replies[step_of(prompt)]})
    graph = create_rlm_graph(chat, prompt=str(tmp_path / "theirs.json"))
    assert graph.invoke({"query": "How many?", "context": TEXT})["answer"] == 3
    assert "Be brief." in chat.seen[0][0].text
    assert "expected int" in chat.seen[1][-1].text


@pytest.mark.parametrize("interpreter", [dspy.PythonInterpreter, dspy.LocalInterpreter, RestrictedPythonInterpreter])
def test_a_file_of_dspys_own_rlm_tells_of_our_sandbox_in_both_frameworks(tmp_path, interpreter):
    """What it says of DSPy's interpreter and of sub-agents would mislead the LM."""
    dspy.RLM(Count, interpreter_factory=interpreter).save(tmp_path / "theirs.json")
    program = RLM(Count)
    program.load(tmp_path / "theirs.json")
    theirs = dspy_messages(program, scripted_lm(script), context=TEXT, question="How many?")
    chat = Scripted(script=script)
    create_rlm_graph(chat, prompt=tmp_path / "theirs.json").invoke({"query": "How many?", "context": TEXT})
    assert [message.content for message in chat.seen[0][:1]] == [theirs[0][0]["content"]]
    system = theirs[0][0]["content"]
    assert RestrictedPythonInterpreter.execution_instructions in system
    assert "Sub-agents" not in system
    assert system.count("Execution environment:") == 1


def test_an_optimised_rewording_is_left_as_it_is(tmp_path):
    own = dspy.RLM("context, query -> answer")
    own.generate_action.signature = own.generate_action.signature.with_instructions("Just write code.")
    own.save(tmp_path / "theirs.json")
    program = RLM("context, query -> answer")
    program.load(tmp_path / "theirs.json")
    assert program.generate_action.signature.instructions == "Just write code."
    assert PromptArtefact.load(tmp_path / "theirs.json").action.instructions == "Just write code."


def test_fields_are_found_by_their_names():
    def names(signature: str) -> dict[str, str]:
        return PromptArtefact.load(RLM(signature).dump_state()).variable_names()

    assert names("document, question -> answer") == {"context": "document", "query": "question"}
    assert names("query, context -> answer") == {"context": "context", "query": "query"}
    assert names("log, pattern -> hits") == {"context": "log", "query": "pattern"}
    assert names("text -> summary") == {"context": "text"}


def test_a_signature_without_a_question_gets_it_into_the_instructions():
    chat = Scripted(script=lambda prompt: {"reasoning": "r", "code": "SUBMIT(text[:5])"})
    graph = create_rlm_graph(chat, prompt=RLM("text -> summary").dump_state())
    assert graph.invoke({"query": "Shorten it", "context": TEXT})["answer"] == "count"
    assert "Question: Shorten it" in chat.seen[0][0].text


def test_tools_and_instructions_of_the_chat_are_added_to_the_prompt():
    def lookup(key: str) -> str:
        """Look a key up."""
        return f"value of {key}"

    chat = Scripted(script=lambda prompt: {"reasoning": "r", "code": "SUBMIT(lookup('k'))"})
    graph = create_rlm_graph(chat, prompt=RLM("context, query -> answer").dump_state(), tools=[lookup])
    result = graph.invoke({"query": "q", "context": "c", "instructions": "Answer in French."})
    assert result["answer"] == "value of k"
    system = chat.seen[0][0].text
    assert "Look a key up." in system
    assert "Answer in French." in system


class Person(BaseModel):
    name: str
    age: int


def test_a_type_that_only_the_program_knows_is_checked_by_its_schema():
    cells = ["SUBMIT({'name': 'A'})", "SUBMIT({'name': 'A', 'age': 5})"]
    chat = Scripted(script=lambda prompt: {"reasoning": "r", "code": cells[step_of(prompt)]})

    class Find(dspy.Signature):
        """Find the person."""

        context: str = dspy.InputField()
        query: str = dspy.InputField()
        person: Person = dspy.OutputField()

    graph = create_rlm_graph(chat, prompt=RLM(Find).dump_state())
    assert graph.invoke({"query": "q", "context": "c"})["answer"] == {"name": "A", "age": 5}


def test_replies_in_other_forms_are_read_as_those_of_any_model():
    replies = ["Let me look.\n```repl\nprint(context)\n```", '{"reasoning": "r", "code": "SUBMIT(len(context))"}']
    chat = Scripted(script=lambda prompt: replies[step_of(prompt)])
    graph = create_rlm_graph(chat, prompt=RLM("context, query -> answer").dump_state())
    assert graph.invoke({"query": "q", "context": "abc"})["answer"] in (3, "3")


def test_children_follow_the_files_own_child_predictors():
    def play(prompt: str) -> Any:
        if "part of it" in prompt.rpartition("Variable: `query`")[2]:
            assert "CHILD LEARNED" in prompt
            return {"reasoning": "c", "code": "SUBMIT('found')"}
        return {"reasoning": "r", "code": "SUBMIT(rlm_query('part of it', context))"}

    rlm = RLM("context, query -> answer", max_depth=2)
    child = rlm.child.generate_action
    child.signature = child.signature.with_instructions("CHILD LEARNED")
    graph = create_rlm_graph(Scripted(script=play), prompt=rlm.dump_state(), limits=Limits(max_depth=2))
    assert graph.invoke({"query": "q", "context": "abc"})["answer"] == "found"


def test_an_rlm_inside_a_larger_program_is_found_by_its_name(tmp_path):
    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = RLM("context, query -> answer")
            self.second = RLM("text, question -> verdict")

    Program().save(tmp_path / "program.json")
    with pytest.raises(InputError, match="'first', 'second'"):
        PromptArtefact.load(tmp_path / "program.json")
    assert list(PromptArtefact.load(tmp_path / "program.json", module="second").outputs) == ["verdict"]


def test_what_is_no_prompt_file_is_refused(tmp_path):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "new.json").write_text(json.dumps({**RLM("q -> a").dump_state(), "rlm": {"version": 99}}))
    for name in ("missing.json", "list.json", "text.json", "new.json"):
        with pytest.raises(InputError):
            PromptArtefact.load(tmp_path / name)
    with pytest.raises(InputError, match="none"):
        PromptArtefact.load(dspy.Predict("q -> a").dump_state())


def test_the_chat_model_follows_a_prompt_file_in_a_chain(tmp_path):
    optimised("context, query -> answer").save(tmp_path / "optimised.json")
    chat = Scripted(script=lambda prompt: {"reasoning": "r", "code": "SUBMIT(context.split()[-1] + query[-1])"})
    model = ChatRLM(model=chat, prompt=str(tmp_path / "optimised.json"))
    chain = ChatPromptTemplate.from_messages([("human", "{question}")]) | model.bind(context=TEXT) | StrOutputParser()
    assert chain.invoke({"question": "Last word?"}) == "me?"
    assert "LEARNED" in chat.seen[0][0].text
    other = ChatRLM(model=chat)
    assert model._identifying_params["prompt"] != other._identifying_params["prompt"], "caches must tell them apart"
