"""A deep agent with an RLM that reads long texts: python deep_agent.py [QUESTION FILE].

A deep agent plans, and gives tasks to subagents. Its `read_file` puts a file into the prompt, which fails for a book.
The subagent `reader` is an RLM: it gets the book as a variable and returns only the answer.

    pip install deepagents

RLM_MODEL names the model of both.
"""

import os
import sys
from pathlib import Path

from deepagents import CompiledSubAgent, create_deep_agent
from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from rlm_adapters import create_rlm_graph

BOOK = Path(__file__).parent / "data" / "origin-of-species.txt"
QUESTION = "What does Darwin say about slave-making ants, and in which chapter? Write two sentences for a child."

question, path = sys.argv[1:] or (QUESTION, BOOK)
model = init_chat_model(os.environ.get("RLM_MODEL", "openai:gpt-5-mini"))
rlm = create_rlm_graph(model)


def read(state: MessagesState) -> MessagesState:
    """Answer the task that the agent gives, from the book."""
    result = rlm.invoke({"query": state["messages"][-1].text, "context": Path(path)})
    return {"messages": [AIMessage(str(result["answer"]))]}


builder = StateGraph(MessagesState)
builder.add_node("read", read)
builder.add_edge(START, "read")
builder.add_edge("read", END)
reader = CompiledSubAgent(
    name="reader",
    description=f"Answers a question about the whole of {Path(path).name}, which no one else can open.",
    runnable=builder.compile(),
)
agent = create_deep_agent(
    model, subagents=[reader], system_prompt="You answer questions about a book. Ask the reader for facts."
)
state = agent.invoke({"messages": [("user", question)]})
for message in state["messages"]:
    calls = [f"{call['name']}({call['args']})" for call in getattr(message, "tool_calls", [])]
    print(f"{message.type}: {message.text or ', '.join(calls)}")
