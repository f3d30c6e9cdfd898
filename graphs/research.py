"""A larger graph that contains the RLM as one of its nodes: plan a question, let the RLM answer it, write a report."""

from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from graphs.rlm import make_graph as make_rlm
from rlm_adapters import RLMOptions


@with_config(ConfigDict(use_attribute_docstrings=True))
class Topic(TypedDict, total=False):
    """The input of the larger graph."""

    topic: str
    """The topic of the report."""
    sources: list[str]
    """The texts for the report."""


class ResearchState(Topic, total=False):
    """The state of the larger graph. From the RLM it gets only the answer."""

    query: str
    context: list[str]
    answer: Any
    finish_reason: str
    report: str


def plan(state: ResearchState) -> ResearchState:
    """Turn a topic and its sources into a question and an input."""
    return {
        "query": f"What do the sources say about {state['topic']}? Name the source number of each statement.",
        "context": state["sources"],
    }


def write(state: ResearchState) -> ResearchState:
    """Write the report. If a limit ended the run, the report says so."""
    partial = "" if state["finish_reason"] in ("submitted", "text") else f" (partial: {state['finish_reason']})"
    return {"report": f"# {state['topic']}{partial}\n\n{state['answer']}"}


async def make_graph() -> CompiledStateGraph[ResearchState, RLMOptions, Topic, ResearchState]:
    """Make the larger graph."""
    builder = StateGraph(ResearchState, context_schema=RLMOptions, input_schema=Topic)
    builder.add_node("plan", plan)
    builder.add_node("rlm", await make_rlm())
    builder.add_node("write", write)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "rlm")
    builder.add_edge("rlm", "write")
    builder.add_edge("write", END)
    return builder.compile(name="research")
