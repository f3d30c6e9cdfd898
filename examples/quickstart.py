"""Ask a question about a text of any size: python quickstart.py [FILE QUESTION] (needs OPENAI_API_KEY)."""

import sys
from pathlib import Path

from langchain_openai import ChatOpenAI

from rlm_adapters import create_rlm_graph

book = Path(__file__).parent / "data" / "origin-of-species.txt"
path, question = sys.argv[1:] or (book, "In which chapters are bees mentioned, and what for?")
graph = create_rlm_graph(ChatOpenAI(model="gpt-5"), ChatOpenAI(model="gpt-5-mini"))
result = graph.invoke({"query": question, "context": Path(path)})
print(result["answer"])
