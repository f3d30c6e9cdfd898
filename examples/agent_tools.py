"""An agent whose model is an RLM: python agent_tools.py [QUESTION].

If a cell calls a tool, the agent gets an ordinary tool call and runs it, with its middleware. Then the cell continues
with the result and all its variables. RLM_MODEL names the inner model.
"""

import os
import sys

from langchain.agents import create_agent
from langchain_core.tools import tool

from rlm_adapters import ChatRLM

ORDERS = {"A-17": ("lamp", 2, "shipped"), "B-04": ("chair", 1, "in stock"), "C-99": ("desk", 1, "lost")}
PRICES = {"lamp": 40.0, "chair": 85.5, "desk": 310.0}


@tool
def order(number: str) -> str:
    """An order by its number: item, count and state, separated by commas."""
    return ", ".join(map(str, ORDERS[number]))


@tool
def price(item: str) -> float:
    """Price of an item in euros."""
    return PRICES[item]


agent = create_agent(
    # 0: a short question is also a run, in which code calls the tools
    ChatRLM(model=os.environ.get("RLM_MODEL", "openai:gpt-5-mini"), direct_below=0),
    [order, price],
    system_prompt="You answer questions about orders. Use the tools.",
)
question = sys.argv[1] if len(sys.argv) > 1 else "What are the orders A-17 and C-99 worth together?"
state = agent.invoke({"messages": [("user", question)]})
for message in state["messages"]:
    calls = [f"{call['name']}({call['args']})" for call in getattr(message, "tool_calls", [])]
    print(f"{message.type}: {message.text or ', '.join(calls)}")
