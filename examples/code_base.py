"""A question about a whole code base: python code_base.py [DIRECTORY QUESTION].

Without arguments it asks about the source code of LangGraph, which is installed with this package. A directory becomes
a dict of texts by path, without the files that its .gitignore excludes. RLM_MODEL names the root LM.
"""

import os
import sys
from pathlib import Path

import langgraph.graph
from typing_extensions import TypedDict

from rlm_adapters import create_rlm_graph

SOURCES = Path(langgraph.graph.__file__).parents[1]
QUESTION = "Which classes of exceptions are defined here, in which file, and what does each one mean?"


class Found(TypedDict):
    name: str
    file: str
    meaning: str


directory, question = sys.argv[1:] or (SOURCES, QUESTION)
graph = create_rlm_graph(os.environ.get("RLM_MODEL", "openai:gpt-5-mini"), output_type=list[Found])
result = graph.invoke({"query": question, "context": Path(directory)})
for found in result["answer"]:
    print(f"{found['file']}: {found['name']}: {found['meaning']}")
print(f"{result['usage']['calls']} sub-calls, {result['usage']['input_tokens']:,} input tokens", file=sys.stderr)
