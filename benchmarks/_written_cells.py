"""Cells as root LMs write them, with comments, helpers and reports around their sub-calls: 250 to 500 tokens each.

The context is a text of 24 reports, one in a paragraph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Where = Literal["first half", "elsewhere"]

CONTEXT = "\n\n".join(
    f"Report {number}: pump {number % 7} at site {'ABC'[number % 3]} lost {number * 3 % 11} bar on day {number}."
    for number in range(24)
)


@dataclass(frozen=True, slots=True)
class Written:
    """A cell.

    Attributes:
        name: what it does.
        code: it.
        where: its sub-calls stand there: ``elsewhere`` is at its end, behind a tool, or nowhere.
    """

    name: str
    code: str
    where: Where = "first half"


_REPORT = """
# Put the results into a table, so that I can check them before I answer.
width = max(len(str(key)) for key in table) + 2 if table else 10
print("results:", len(table))
for key in sorted(table, key=str):
    value = table[key]
    line = str(key).ljust(width) + str(value)[:60]
    print(line)

# Some statistics about the lengths, to see whether an answer is empty or cut off.
lengths = [len(str(value)) for value in table.values()]
if lengths:
    print("shortest:", min(lengths), "longest:", max(lengths), "mean:", sum(lengths) / len(lengths))
empty = [key for key, value in table.items() if not str(value).strip()]
if empty:
    print("WARNING: empty answers for", empty[:10])
else:
    print("no empty answers")

# Duplicates would mean that two parts were mixed up.
counts = {}
for value in table.values():
    counts[value] = counts.get(value, 0) + 1
doubles = [value for value, count in counts.items() if count > 1]
print("answers that occur more than once:", len(doubles))
"""

CELLS = (
    Written(
        "summaries in a loop",
        """parts = context.split("\\n\\n")
print(len(parts), "reports")
table = {}
for number, part in enumerate(parts[:16]):
    answer = llm_query(f"Summarize this report in five words:\\n{part}")
    table[number] = answer.strip()
"""
        + _REPORT,
    ),
    Written(
        "one batch, then counted",
        """reports = [p for p in context.split("\\n\\n") if p.strip()]
prompts = [f"Which site does this report name? Answer A, B or C.\\n\\n{r}" for r in reports[:20]]
answers = llm_query_batched(prompts)
table = {i: a.strip() for i, a in enumerate(answers)}
"""
        + _REPORT,
    ),
    Written(
        "found by search, then asked",
        """import re

# Find the reports that talk about pump 3, then ask about each of them.
hits = [m.start() for m in re.finditer(r"pump [0-3]", context)]
print(len(hits), "hits")
windows = [context[max(0, h - 40):h + 60] for h in hits[:12]]
table = {}
for h, window in zip(hits, windows):
    table[h] = llm_query("How much pressure was lost? Reply with the number only.\\n" + window)
"""
        + _REPORT,
    ),
    Written(
        "a helper that tries again",
        """def ask(part, tries=2):
    for attempt in range(tries):
        reply = llm_query(f"Extract the day as a number (attempt {attempt}):\\n{part}").strip()
        if reply:
            return reply
    return ""

parts = context.split("\\n\\n")[:14]
table = {part[:10]: ask(part) for part in parts}
"""
        + _REPORT,
    ),
    Written(
        "two levels",
        """parts = context.split("\\n\\n")
groups = [parts[i:i + 4] for i in range(0, len(parts), 4)]
firsts = []
for group in groups:
    firsts.append(llm_query("Summarize:\\n" + "\\n".join(group)).strip())
table = {}
for number, first in enumerate(firsts):
    table[number] = llm_query(f"Make this shorter: {first}").strip()
"""
        + _REPORT,
    ),
    Written(
        "answers read as JSON",
        """import json

records = []
for part in context.split("\\n\\n")[:12]:
    reply = llm_query('Give {"site": ..., "pump": ...} as JSON for:\\n' + part)
    try:
        records.append(json.loads(reply))
    except ValueError:
        records.append({"raw": reply.strip()})
table = {i: str(r) for i, r in enumerate(records)}
"""
        + _REPORT,
    ),
    Written(
        "threads",
        """from concurrent.futures import ThreadPoolExecutor

parts = context.split("\\n\\n")[:16]

def label(part):
    return llm_query(f"Is this urgent? yes or no\\n{part}").strip()

with ThreadPoolExecutor(max_workers=8) as pool:
    labels = list(pool.map(label, parts))
table = dict(zip(range(len(parts)), labels))
"""
        + _REPORT,
    ),
    Written(
        "asked at the end",
        'table = {part[:9]: part[10:40] for part in context.split("\\n\\n")}\n'
        + _REPORT
        + 'notes = [llm_query(f"Say it in other words: {value}") for value in list(table.values())[:12]]\n',
        where="elsewhere",
    ),
    Written(
        "no sub-calls",
        """import re
from collections import Counter

parts = context.split("\\n\\n")
sites = Counter(re.search(r"site (\\w)", part)[1] for part in parts)
print(sites)
table = dict(sites)
"""
        + _REPORT,
        where="elsewhere",
    ),
    Written(
        "behind a tool",
        """parts = context.split("\\n\\n")
print(note(f"{len(parts)} reports"))
table = {}
for number, part in enumerate(parts[:12]):
    table[number] = llm_query(f"Summarize in five words:\\n{part}").strip()
"""
        + _REPORT,
        where="elsewhere",
    ),
)
