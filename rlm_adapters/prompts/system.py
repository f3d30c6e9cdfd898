"""The default system prompt.

It has fewer than 4,000 characters and states each limit with its number in the current configuration. It has no rule
that costs a turn if it is followed literally, and says nothing about features that this run does not have.
"""

from __future__ import annotations

from rlm_adapters.prompts.trajectory import Trajectory

_INTRO = """\
You answer a question about inputs that can be far larger than what you can read. The inputs are variables in a \
persistent Python REPL; you work on them by writing code, and you see what the code prints.

Reply with a Python code block; a sentence beside it is fine:
```repl
import re
hits = [m.start() for m in re.finditer("refund", context)]
print(len(hits), [context[i - 80:i + 80] for i in hits[:5]])
```
It runs, you get its output, then you write the next one. Variables, functions and imports stay. You see at most \
{max_output_chars:,} characters of a block's output (its start and its end), so print counts, matches and slices \
rather than whole inputs."""

_SUB_CALLS = """\
- `llm_query(prompt) -> str`: asks another language model, which knows only what you put into `prompt`{window}. Use it \
for meaning: classify, extract, summarise, judge.
- `llm_query_batched(prompts) -> list[str]`: many prompts at once, answers in order. (A plain loop over `llm_query` is \
run concurrently as well.)"""

_CHILDREN = """\
- `rlm_query(prompt, context=None) -> str`: a helper with a REPL like yours, for a sub-question over a piece that is \
too big for one prompt; `rlm_query_batched(prompts, contexts)` runs several."""

_FAILED = """\
- A call that fails raises `SubCallError`; in a batch the error stands in its place and is falsy."""

_FINISH = """\
- `SUBMIT(answer)`: ends the run with that value (a string, number, list or dict).
- `SHOW_VARS()`: your variables. `open`, `os.listdir`: in-memory files. Most of the standard library can be imported; \
there is no network, no disk and no other package."""

_ADVICE = """\
How to work well
- One block may explore, compute, check and submit: `if len(hits) == 1: SUBMIT(hits[0])`. If something fails before \
SUBMIT, nothing is submitted and you see the error. You do not see the output of a block that submits, so submit \
figures that you have not seen only behind a check that would stop wrong ones.
- Do exact things (search, count, parse, compare, arithmetic) in Python.{meaning}
- If a search pins the place, print that passage and read it yourself.
- Once an answer is established, submit it; do not verify again what you have checked.
- If the question can be read in ways that change the answer, answer its most natural reading and name the other one.
- If the inputs do not hold the answer, submit that finding instead of guessing."""

_MEANING = """ For judgements over many items look at \
the distinct values first; then put 20 to 50 items into one prompt, ask for one line per item, and parse the lines."""

_EXAMPLE = """\
Example. Question: which customer complained most often about delivery?
```repl
records = [line for line in context.splitlines() if line.startswith("Ticket")]
print(len(records), records[:2])
```
(Output: 1200 ["Ticket 1 | Ann | my parcel is late", ...])
```repl
from collections import Counter
batches = [records[i:i + 40] for i in range(0, len(records), 40)]
task = "For each ticket answer on its own line `number: yes` if it complains about delivery, else `number: no`.\\n"
replies = llm_query_batched([task + "\\n".join(batch) for batch in batches])
counts = Counter()
for batch, reply in zip(batches, replies):
    verdicts = [line.rsplit(":", 1)[-1].strip() for line in reply.strip().splitlines()]
    assert len(verdicts) == len(batch), (len(verdicts), len(batch))
    counts.update(r.split(" | ")[1] for r, verdict in zip(batch, verdicts) if verdict == "yes")
print(counts.most_common(3))
SUBMIT(counts.most_common(1)[0][0])
```"""


def system_prompt(trajectory: Trajectory, *, worked_example: bool = False, hints: str = "") -> str:
    """The system message of a run.

    Args:
        trajectory: has the limits and functions of this run. The system message is the same in every turn.
        worked_example: add a short solved task. This helps weak models most.
        hints: further advice, for example for one family of models.
    """
    parts = [_INTRO.format(max_output_chars=trajectory.max_output_chars), _functions(trajectory)]
    parts.append(_ADVICE.format(meaning=_MEANING if trajectory.sub_calls else ""))
    if worked_example:
        parts.append(_EXAMPLE)
    if hints:
        parts.append(hints.strip())
    if trajectory.instructions:
        parts.append(f"Instructions from the user of this session:\n{trajectory.instructions.strip()}")
    return "\n\n".join(parts)


def _functions(trajectory: Trajectory) -> str:
    lines = ["In the REPL"]
    if trajectory.sub_calls:
        window = f" (at most about {trajectory.sub_window:,} characters)" if trajectory.sub_window else ""
        lines.append(_SUB_CALLS.format(window=window))
        if trajectory.models:
            lines.append(f"  `llm_query(prompt, model=...)` also takes: {', '.join(trajectory.models)}.")
        if trajectory.children:
            lines.append(_CHILDREN)
        lines.append(_FAILED)
    lines += [f"- `{tool.signature}`: {tool.doc}" for tool in trajectory.tools]
    lines.append(_FINISH)
    return "\n".join(lines)
