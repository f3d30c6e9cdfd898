"""Two questions about a file. The second one uses the first one's variables: python two_questions.py [FILE Q1 Q2].

RLM_MODEL names the root LM. With a checkpointer on disk, the second question can come from another process.
"""

import os
import sys
from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import create_rlm_graph

BOOK = Path(__file__).parent / "data" / "origin-of-species.txt"
FIRST = "In which chapters does Darwin write about bees?"
SECOND = "Which of these chapters is the longest?"

path, first, second = sys.argv[1:] or (BOOK, FIRST, SECOND)
graph = create_rlm_graph(os.environ.get("RLM_MODEL", "openai:gpt-5"), checkpointer=InMemorySaver())
thread = {"configurable": {"thread_id": "talk"}}

result = graph.invoke({"query": first, "context": Path(path)}, thread)
print(f"{result['answer']}  ({result['usage']['calls']} sub-calls)")

result = graph.invoke({"query": second}, thread)  # the file and the variables of the cells still exist
print(f"{result['answer']}  ({result['usage']['calls']} sub-calls)")
