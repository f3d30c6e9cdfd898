"""Loops as language models write them, with about 100 sub-LM calls each.

A sub-LM answers a prompt ``p`` with ``" <p> "``, cut to 60 characters; so ``'1' in answer`` is true for the items
whose number has a 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Shape:
    """A cell.

    Attributes:
        name: what it shows.
        code: the cell; ``out`` is an empty list before it.
        needs: what a call needs to be known or reached. ``nothing``: no other call. ``levels``: answers for the same
            item, or all answers of a loop before it; one round of calls after the other. ``each``: the answer of the
            call before it.
    """

    name: str
    code: str
    needs: Literal["nothing", "levels", "each"] = "nothing"


SHAPES = (
    # The 16 shapes on which run-ahead was first measured.
    Shape(
        "independent loop",
        """
for c in range(100):
    a = llm_query(f'Summarize {c}')
    out.append(a)
print(len('|'.join(out)))
""",
    ),
    Shape("list comprehension", "out = [llm_query(f'S {c}') for c in range(100)]\nprint(len('|'.join(out)))"),
    Shape(
        "dependent pair",
        """
for c in range(100):
    a = llm_query(f'A {c}')
    b = llm_query(f'B {a}')
    out.append(b)
print(len('|'.join(out)))
""",
        needs="levels",
    ),
    Shape(
        "dependent pair, stripped",
        """
for c in range(100):
    a = llm_query(f'A {c}').strip()
    b = llm_query(f'B {a}')
    out.append(b)
print(len('|'.join(out)))
""",
        needs="levels",
    ),
    Shape(
        "second call if 'x' in answer",
        """
for c in range(100):
    a = llm_query(f'A {c}')
    if '1' in a:
        b = llm_query(f'detail {c}')
        out.append(b)
print(len('|'.join(out)))
""",
        needs="levels",
    ),
    Shape("print in the loop", "for c in range(100):\n    a = llm_query(f'A {c}')\n    print(c, a)"),
    Shape(
        "count words of each answer",
        """
total = 0
for c in range(100):
    a = llm_query(f'A {c}')
    total += len(a.split())
print(total)
""",
    ),
    Shape(
        "json.loads in try/except",
        """
import json
for c in range(100):
    r = llm_query(f'A {c}')
    try:
        out.append(json.loads(r))
    except Exception as e:
        out.append(str(e)[:5])
print(out[:2])
""",
    ),
    Shape(
        "helper function, dict comprehension",
        """
def ask(c):
    r = llm_query(f'A {c}')
    return {'c': c, 'r': r.strip().upper()}
res = {c: ask(c) for c in range(100)}
print(sorted(res)[-1], res[5])
""",
    ),
    Shape(
        "early break (search)",
        """
for c in range(100):
    a = llm_query(f'A {c}')
    if 'A 20>' in a:
        print(a)
        break
""",
        needs="each",
    ),
    Shape(
        "rolling text",
        """
buf = ''
for c in range(30):
    buf = llm_query(f'{buf} {c}')[:20]
print(buf)
""",
        needs="each",
    ),
    Shape(
        "rolling list",
        """
notes = []
for c in range(30):
    notes.append(llm_query(f'{notes} {c}')[:20])
print(len(notes))
""",
        needs="each",
    ),
    Shape(
        "second call with part of the answer",
        """
for c in range(100):
    a = llm_query(f'A {c}')
    if '1' not in a:
        out.append(llm_query(f'detail {c} {a[:3]}'))
print(len(out))
""",
        needs="levels",
    ),
    Shape(
        "raise in the loop",
        """
for c in range(30):
    a = llm_query(f'A {c}')
    if 'A 5>' in a:
        raise ValueError(a)
""",
        needs="each",
    ),
    Shape(
        "nested loops in a function",
        """
def f(n):
    r = []
    for i in range(n):
        for j in range(5):
            x = llm_query(f'{i}.{j}')
            if '2' in x:
                r.append(x)
    return r
print(len(f(20)))
""",
    ),
    Shape("the same prompt, sampled", "xs = [llm_query('same') for _ in range(100)]\nprint(len(xs))"),
    # More of them.
    Shape(
        "comprehension filtered by the answer",
        "hits = [c for c in range(100) if '1' in llm_query(f'Is {c} relevant?')]\nprint(hits)",
    ),
    Shape("count of a generator", "print(sum(1 for c in range(100) if '7' in llm_query(f'S {c}').lower()))"),
    Shape(
        "helper with a conditional return",
        """
def classify(c):
    r = llm_query(f'A {c}')
    if '1' in r:
        return 'one'
    if not r.strip():
        return None
    return r.strip()[:9]
print([classify(c) for c in range(100)])
""",
    ),
    Shape(
        "while with a test of the answer",
        """
i = 0
while i < 100:
    r = llm_query(f'S {i}')
    if '3' in r:
        out.append(r)
    i += 1
print(len(out))
""",
    ),
    Shape(
        "nested functions",
        """
def outer(items):
    results = {}
    def inner(item):
        answer = llm_query(f'Item {item}').strip()
        results[item] = answer
        return answer
    for item in items:
        inner(item)
    return results
print(len(outer(range(100))))
""",
    ),
    Shape(
        "try/except with raise, per item",
        """
bad = []
for c in range(100):
    try:
        r = llm_query(f'S {c}')
        if '7' in r:
            raise ValueError(r)
        out.append(r)
    except Exception as e:
        bad.append(str(e))
print(len(out), len(bad))
""",
    ),
    Shape(
        "dict of lists by label",
        """
groups = {}
for c in range(100):
    label = llm_query(f'Label {c % 7} of {c}').strip()[:8]
    groups.setdefault(label, []).append(c)
print(sorted(groups.items()))
""",
    ),
    Shape(
        "chain of three",
        """
for c in range(40):
    a = llm_query(f'Extract {c}').strip()
    b = llm_query(f'Check {a}').replace('<', '').replace('>', '')
    out.append(llm_query(f'Rewrite {b}'))
print(len(out), out[3])
""",
        needs="levels",
    ),
    Shape(
        "cleaning with re between calls",
        """
import re
for c in range(100):
    r = llm_query(f'Give the number of {c}')
    m = re.search(r'\\d+', r)
    n = int(m.group()) if m else 0
    if n % 2:
        out.append(llm_query(f'Explain {n}'))
print(len(out))
""",
        needs="levels",
    ),
    Shape(
        "retry until it parses",
        """
import json
for c in range(50):
    for attempt in range(2):
        r = llm_query(f'JSON of {c}, attempt {attempt}')
        try:
            out.append(json.loads(r))
            break
        except json.JSONDecodeError:
            continue
    else:
        out.append(None)
print(len(out))
""",
        needs="levels",
    ),
    Shape(
        "map, then one reduction",
        """
parts = []
for c in range(100):
    parts.append(f'{c}: ' + llm_query(f'Summarize {c}').strip())
joined = '\\n'.join(parts)
print(len(joined), llm_query('Combine: ' + joined)[:20])
""",
        needs="levels",
    ),
    Shape(
        "class with a method",
        """
class Reader:
    def __init__(self):
        self.notes = []
    def read(self, c):
        note = llm_query(f'Read {c}')
        self.notes.append(note.strip())
        return note
reader = Reader()
for c in range(100):
    reader.read(c)
print(len(reader.notes))
""",
    ),
    Shape("sorted by a score", "print(sorted(range(100), key=lambda c: len(llm_query(f'Score {c * 37}')))[:9])"),
    Shape(
        "filter with a lambda",
        "print(list(filter(lambda c: '9' in llm_query(f'Keep {c}?'), range(100))))",
    ),
    Shape(
        "threads",
        """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(max_workers=32) as pool:
    out = list(pool.map(lambda c: llm_query(f'T {c}'), range(100)))
print(len(out))
""",
    ),
    Shape(
        "first success wins",
        "print(next(c for c in range(100) if '<D 17>' in llm_query(f'D {c}')))",
        needs="each",
    ),
    Shape(
        "SUBMIT in the loop",
        """
for c in range(100):
    a = llm_query(f'A {c}')
    if 'A 15>' in a:
        SUBMIT(a)
""",
        needs="each",
    ),
    Shape(
        "state of an object, rolling",
        """
class Memory:
    def __init__(self):
        self.text = ''
    def add(self, c):
        self.text = llm_query(f'{self.text[-20:]} and {c}')
memory = Memory()
for c in range(30):
    memory.add(c)
print(memory.text)
""",
        needs="each",
    ),
    Shape(
        "mixed with a tool",
        """
for c in range(15):
    r = llm_query(f'A {c}')
    record(r)
print('recorded')
""",
        needs="each",
    ),
)
