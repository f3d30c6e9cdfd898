"""An RLM for each document, at the same time, then one answer: python documents_in_parallel.py [QUESTION FILE...].

LangGraph's `Send` starts the RLM graph once for each document. Without arguments it reads three pages of this project's
documentation. RLM_MODEL names the root LM.
"""

import operator
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from langchain.chat_models import init_chat_model
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from rlm_adapters import Limits, create_rlm_graph

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "security.md", DOCS / "storage.md", DOCS / "approval.md"]
QUESTION = "What must I set before I serve this to strangers?"

name = os.environ.get("RLM_MODEL", "openai:gpt-5")
model = init_chat_model(name)
rlm = create_rlm_graph(model, limits=Limits(max_calls=100))


class State(TypedDict, total=False):
    question: str
    paths: list[Path]
    findings: Annotated[list[str], operator.add]
    answer: str


def one_for_each(state: State) -> list[Send]:
    return [Send("read", {"question": state["question"], "path": path}) for path in state["paths"]]


async def read(task: dict[str, Any]) -> State:
    result = await rlm.ainvoke({"query": task["question"], "context": task["path"]})
    return {"findings": [f"{task['path'].name}: {result['answer']}"]}


async def answer(state: State) -> State:
    found = "\n".join(sorted(state["findings"]))
    reply = await model.ainvoke(f"{state['question']}\n\nWhat the documents say:\n{found}")
    return {"answer": reply.text}


builder = StateGraph(State)
builder.add_node("read", read)
builder.add_node("answer", answer)
builder.add_conditional_edges(START, one_for_each, ["read"])
builder.add_edge("read", "answer")
builder.add_edge("answer", END)

if __name__ == "__main__":
    import asyncio

    question, *paths = sys.argv[1:] or (QUESTION, *PAGES)
    given = {"question": question, "paths": [Path(path) for path in paths]}
    result = asyncio.run(builder.compile().ainvoke(given))
    print("\n".join(sorted(result["findings"])))
    print(result["answer"])
