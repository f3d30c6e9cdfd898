"""A person approves each cell before it runs: python review_cells.py [FILE QUESTION], then y, a, n or e.

RLM_MODEL names the root LM. The run waits in a checkpoint. With a checkpointer on disk, the answer can come from
another process, days later.
"""

import os
import sys
from pathlib import Path

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from rlm_adapters import create_rlm_graph

BOOK = Path(__file__).parent / "data" / "origin-of-species.txt"

path, question = sys.argv[1:] or (BOOK, "Which chapter is the longest?")
graph = create_rlm_graph(os.environ.get("RLM_MODEL", "openai:gpt-5"), approve="cells", checkpointer=InMemorySaver())
thread = {"configurable": {"thread_id": "review"}}

result = graph.invoke({"query": question, "context": Path(path)}, thread)
while "__interrupt__" in result:
    request = result["__interrupt__"][0].value
    print(f"\n{request['action_requests'][0]['args']['code']}\n")
    key = input("run it (y), run all (a), refuse (n), edit (e)? ")
    if key == "y":
        decision = {"type": "approve"}
    elif key == "a":
        decision = {"type": "approve_all"}
    elif key == "e":
        code = input("code: ")
        decision = {"type": "edit", "edited_action": {"name": "run_cell", "args": {"code": code}}}
    else:
        decision = {"type": "reject", "message": input("why? ")}
    result = graph.invoke(Command(resume=decision), thread)
print(f"\n{result['answer']}")
