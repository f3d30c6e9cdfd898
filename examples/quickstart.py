"""Ask a question about a text of any size: python quickstart.py FILE QUESTION (needs OPENAI_API_KEY)."""

import sys
from pathlib import Path

from langchain_openai import ChatOpenAI

from rlm_adapters import create_rlm_graph

graph = create_rlm_graph(ChatOpenAI(model="gpt-5"), ChatOpenAI(model="gpt-5-mini"))
result = graph.invoke({"query": sys.argv[2], "context": Path(sys.argv[1])})
print(result["answer"])
