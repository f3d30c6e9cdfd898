"""A table of support tickets becomes a DataFrame of figures: python tickets_to_dataframe.py.

A text search cannot find the topic of a ticket: a model must read each one. The root LM writes a loop that gives the
tickets to a sub-LM, many at once, and counts in Python. So no model counts, and no model sees all tickets. (The
benchmark OOLONG has similar questions.) Needs pandas. RLM_MODEL names the root LM, RLM_SUB_MODEL the sub-LM.
"""

import os
import random
import sys

import pandas as pd
from typing_extensions import TypedDict

from rlm_adapters import Limits, create_rlm_graph

WORDS = {
    "delivery": [
        "The parcel has not come.",
        "The courier left it in the rain.",
        "It is still on its way, says the app.",
    ],
    "payment": ["My card was charged twice.", "The invoice names another firm.", "I was promised my money back."],
    "defect": ["The lamp flickers.", "One leg is shorter than the others.", "It went dark after two days."],
}
QUESTION = (
    "Each row is a support ticket. Decide for each ticket whether it is about delivery, payment or defect. "
    "How many tickets of each kind came in each month?"
)


class Count(TypedDict):
    month: str
    kind: str
    tickets: int


def made_up_tickets(count: int = 600) -> tuple[pd.DataFrame, list[str]]:
    """Tickets, and the kind of each one."""
    dice = random.Random(11)  # noqa: S311 - no secret, and the same tickets each time
    kinds = dice.choices(list(WORDS), weights=[5, 3, 2], k=count)
    rows = [
        {"month": f"2026-0{dice.randint(1, 3)}", "customer": dice.randrange(10**6), "text": dice.choice(WORDS[kind])}
        for kind in kinds
    ]
    return pd.DataFrame(rows), kinds


tickets, kinds = made_up_tickets()
name = os.environ.get("RLM_MODEL", "openai:gpt-5-mini")
graph = create_rlm_graph(
    name, os.environ.get("RLM_SUB_MODEL", name), output_type=list[Count], limits=Limits(max_calls=100)
)
result = graph.invoke({"query": QUESTION, "context": tickets})

counted = pd.DataFrame(result["answer"])
table = counted.pivot_table(index="month", columns="kind", values="tickets", aggfunc="sum", fill_value=0)
print(table.astype(int))
right = pd.crosstab(tickets["month"], pd.Series(kinds, name="kind"))
print(f"off by {int((right - table).abs().sum().sum())} of {len(tickets)} tickets")
print(f"{result['usage']['calls']} sub-calls", file=sys.stderr)
