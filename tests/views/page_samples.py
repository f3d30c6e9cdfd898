"""Pages to look at: a run that nobody made, with as many calls as wanted, and texts that attack the page."""

import random

from rlm_adapters.views.page.page import Answer, Entry, Page, Part, Table

ATTACKS = [
    "</script><script>window.attacked = 1</script>",
    "<!--<script>",
    "<img src=x onerror='window.attacked = 2'>",
    '"><svg onload=window.attacked=3>',
    "javascript:window.attacked=4",
    "${window.attacked = 5}",
    "\u2028window.attacked = 6\u2029",
    "]]><style>*{display:none}</style>",
    "&lt;b&gt; &amp; <b>bold</b>",
    "\ud800 lone \udfff",
    "__proto__",
    "$data $script $$ ${title}",
    "\x00\x1b[31m\x07",
]


def sample(calls, *, iterations=4, attack="", seed=3):
    """A run with `calls` sub-calls, 32 at a time, some of them failed or run ahead."""
    chance = random.Random(seed)
    entries, now, each = [], 0.0, max(1, calls // iterations)
    for iteration in range(iterations):
        reply = Part(name="Reply", text=f"I look at part {iteration}.{attack}")
        entries.append(
            Entry(
                kind="root",
                title=f"iteration {iteration + 1}{attack}",
                start=now,
                end=now + 2,
                model=f"root{attack}",
                input_tokens=2800 + iteration * 600,
                output_tokens=300,
                cost=0.0121,
                parts=[reply],
            )
        )
        now += 2
        code = (
            f"answers = [llm_query('Who speaks? ' + part) for part in parts[:{each}]]  # {attack}\nprint(len(answers))"
        )
        ends = now + 0.6 * (1 + each // 32)
        parts = [Part(name="Code", text=code, code=True), Part(name="Output", text=f"{each}{attack}")]
        entries.append(Entry(kind="cell", title=code.splitlines()[0], start=now, end=ends, parts=parts))
        cell = len(entries) - 1
        for number in range(each):
            begins = now + 0.6 * (number // 32)
            failed = chance.random() < 0.01
            texts = [
                Part(name="Prompt", text=f"Who speaks? paragraph {iteration}.{number} {attack}" + "words " * 200),
                Part(name="Error" if failed else "Answer", text=f"speaker {number % 7}{attack}"),
            ]
            entries.append(
                Entry(
                    kind="call",
                    title=f"Who speaks? paragraph {iteration}.{number} {attack}",
                    parent=cell,
                    start=begins,
                    end=begins + 0.3 + 0.3 * chance.random(),
                    status="failed" if failed else "ok",
                    model="sub",
                    ahead=chance.random() < 0.3,
                    input_tokens=400 + number % 70,
                    output_tokens=20,
                    cost=0.0001,
                    facts=[("key", attack)] if attack else (),
                    parts=texts,
                )
            )
        now = ends
    return Page(
        question=f"Who speaks in the book?{attack}",
        answer=Answer(title="Answer (submitted)", text=f"Ishmael{attack}"),
        facts=[("time", f"{now:.1f} s"), ("calls", f"{calls:,}{attack}")],
        tables=[Table(heads=["model", "calls"], rows=[[f"sub{attack}", f"{calls:,}"]])],
        entries=entries,
        seconds=now,
        foot=f"made by a test{attack}",
    )
