"""An existing LangGraph node, in which only the model changes: python langgraph_node.py [FILE].

The graph summarises a text and grades the summary. With a plain chat model it fails if the text is longer than the
model's window. RLM_MODEL names the inner model.
"""

import os
import sys
from pathlib import Path

from langchain.chat_models import init_chat_model
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from rlm_adapters import ChatRLM

BOOK = Path(__file__).parent / "data" / "origin-of-species.txt"

name = os.environ.get("RLM_MODEL", "openai:gpt-5-mini")
model = ChatRLM(model=name)  # before: init_chat_model(name)
grader = init_chat_model(name)


class State(TypedDict, total=False):
    text: str
    summary: str
    grade: str


def summarise(state: State) -> State:
    reply = model.invoke([("system", "Sum up the text in at most two sentences."), ("human", state["text"])])
    return {"summary": reply.text}


def grade(state: State) -> State:
    return {"grade": grader.invoke(f"Grade this summary from A to F, one letter:\n{state['summary']}").text}


builder = StateGraph(State)
builder.add_node("summarise", summarise)
builder.add_node("grade", grade)
builder.add_edge(START, "summarise")
builder.add_edge("summarise", "grade")
builder.add_edge("grade", END)
graph = builder.compile()

path = sys.argv[1] if len(sys.argv) > 1 else BOOK
result = graph.invoke({"text": Path(path).read_text()})
print(f"{result['summary']}\nGrade: {result['grade']}")
