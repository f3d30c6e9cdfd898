"""A question about a shelf of PDFs: python pdf_shelf.py [QUESTION FILE...].

Without arguments it makes twelve contracts of 12 pages each. Each contract has a period of notice on some page. The
answer names file and page, so that you can check it. Each PDF is a list of its pages. RLM_MODEL names the root LM.
"""

import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from sample_data import pdf
from typing_extensions import TypedDict

from rlm_adapters import create_rlm_graph

QUESTION = "Which contracts can be ended with a notice of less than 60 days?"


class Clause(TypedDict):
    file: str
    page: Annotated[int, "from 1"]
    days: int


def made_up_contracts(directory: Path) -> list[Path]:
    """Twelve contracts, the same ones each time."""
    dice = random.Random(3)  # noqa: S311 - no secret
    paths = []
    for number in range(1, 13):
        place, days = dice.randrange(12), dice.choice([14, 30, 45, 60, 90, 180])
        clause = f"Either party may end this contract with a notice of {days} days in writing."
        pages = [
            "\n".join([f"Contract {number}, page {page + 1}", *["The supplier delivers the goods as agreed."] * 30])
            for page in range(12)
        ]
        pages[place] += f"\n{clause}"
        path = directory / f"contract-{number:02}.pdf"
        path.write_bytes(pdf(pages))
        paths.append(path)
    return paths


with tempfile.TemporaryDirectory() as directory:
    if len(sys.argv) > 1:
        question, paths = sys.argv[1], [Path(name) for name in sys.argv[2:]]
    else:
        question, paths = QUESTION, made_up_contracts(Path(directory))
    graph = create_rlm_graph(os.environ.get("RLM_MODEL", "openai:gpt-5-mini"), output_type=list[Clause])
    result = graph.invoke({"query": question, "context": paths})
for clause in result["answer"]:
    print(f"{clause['file']}, page {clause['page']}: {clause['days']} days")
