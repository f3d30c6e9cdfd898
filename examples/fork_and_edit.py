"""Go back to a cell, change it, and compare the two answers: python fork_and_edit.py [FILE QUESTION OLD NEW].

OLD and NEW are pieces of code: the run is forked before the first cell that contains OLD, and continues with NEW
instead. Without arguments it counts pigeons in a book, and then bees. RLM_MODEL names the root LM.
"""

import os
import sys
from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import create_rlm_graph

BOOK = Path(__file__).parent / "data" / "origin-of-species.txt"

path, question, old, new = sys.argv[1:] or (BOOK, "How often does the word pigeon occur?", "pigeon", "bee")
graph = create_rlm_graph(os.environ.get("RLM_MODEL", "openai:gpt-5"), checkpointer=InMemorySaver())
thread = {"configurable": {"thread_id": "fork"}}
print("As it was:", graph.invoke({"query": question, "context": Path(path)}, thread)["answer"])

before = [state for state in graph.get_state_history(thread) if state.next == ("execute",)]
for state in reversed(before):  # oldest first
    cells = state.values["queue"]
    if any(isinstance(cell, str) and old in cell for cell in cells):
        edited = [cell.replace(old, new) for cell in cells]
        fork = graph.update_state(state.config, {"queue": edited})
        print("Edited:", graph.invoke(None, fork)["answer"])  # earlier cells do not cost again
        break
else:
    print(f"no cell holds {old!r}")
