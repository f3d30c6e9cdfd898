"""Questions about images: python images.py [QUESTION FILE...].

Without arguments it makes three bar charts. The root LM does not see an image. A cell passes it to a sub-LM with a
question: llm_query(["What does it show?", context["chart.png"]]). RLM_MODEL names the model, which must be able to
read images.
"""

import os
import sys
import tempfile
from pathlib import Path

from sample_data import bar_chart

from rlm_adapters import create_rlm_graph

SALES = {"berlin.png": [20, 40, 60, 80], "lisbon.png": [90, 70, 40, 30], "oslo.png": [50, 55, 60, 70]}
QUESTION = "Each picture shows the sales of a shop by quarter. In which shops did sales fall over the year?"

with tempfile.TemporaryDirectory() as directory:
    if len(sys.argv) > 1:
        question, paths = sys.argv[1], [Path(name) for name in sys.argv[2:]]
    else:
        question, paths = QUESTION, [Path(directory) / name for name in SALES]
        for path in paths:
            path.write_bytes(bar_chart(SALES[path.name]))
    graph = create_rlm_graph(os.environ.get("RLM_MODEL", "openai:gpt-5-mini"), output_type=list[str])
    result = graph.invoke({"query": question, "context": paths})
print(", ".join(result["answer"]))
