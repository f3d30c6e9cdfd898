"""The scripted models of a chaos run: every prompt is asked once, and its answer can be told from the prompt."""

import re

from tests.server import ModelRequest, Reply, cell, question_text, turn_of

LOOP, BATCH = 12, 10
CONTEXT = "lorem ipsum dolor " * 280_000
"""Over 4 MB: the sandbox keeps it in a holder of its own, which can be killed too."""

_CELLS = (
    "TAG = {tag!r}\ndata = [f'item {{i}}' for i in range({loop})]\nprint(len(context), len(data))",
    "out = []\nfor d in data:\n    out.append(llm_query(f'LOOP {{TAG}} {{d}}.'))\nprint(len(out))",
    "b = llm_query_batched([f'BATCH {{TAG}} {{i}}.' for i in range({batch})])\nn = note('tool ' + TAG)\nprint(len(b), n)",
    "kid = rlm_query('CHILD ' + TAG + '.', 'abc ' * 50)\nprint(kid)",
    "last = llm_query(f'LAST {{TAG}} {{out[3]}} {{b[2]}}.')\nx = sum(range(400_000))\nprint(last, x)",
    "yes = approve('go on with ' + TAG)\nprint(yes)",
    "SUBMIT('|'.join([*out, *b, kid, last, n, yes, str(x)]))",
)
_CHAT = (
    "TAG = {tag!r}\nout = [llm_query(f'LOOP {{TAG}} {{i}}.') for i in range(6)]\nprint(len(out))",
    "w = weather(TAG)\nprint(w)",
    "b = llm_query_batched([f'BATCH {{TAG}} {{i}}.' for i in range(6)])\nw2 = weather(TAG + 'x')",
    "SUBMIT('|'.join([*out, *b, w, w2]))",
)


def root(messages: list[dict], request: ModelRequest) -> Reply | str:
    """The root LM, of the runs and of their children."""
    told, turn = question_text(messages), turn_of(messages)
    child = re.search(r"CHILD (\w+)\.", told)
    if child is not None:
        steps = (f"z = llm_query('KIDSUB {child[1]}.')\nprint(z)", f"SUBMIT(z + llm_query('KIDTWO {child[1]}.'))")
        return cell(steps[min(turn, 1)])
    tag = re.search(r"TAG=(\w+)", told)
    assert tag, told[-300:]
    steps = _CHAT if tag[1].startswith("chat") else _CELLS
    return cell(steps[min(turn, len(steps) - 1)].format(tag=tag[1], loop=LOOP, batch=BATCH))


def sub(messages: list[dict], request: ModelRequest) -> str:
    """The sub-LM."""
    return answer_to(str(messages[-1]["content"]))


def answer_to(prompt: str) -> str:
    """The answer to a prompt: also searched for in the saver's tables, to tell what was committed."""
    return f"<{prompt}>"


def prompts_of(tag: str) -> list[str]:
    """Every sub-call that a run makes."""
    if tag.startswith("chat"):
        return [*(f"LOOP {tag} {i}." for i in range(6)), *(f"BATCH {tag} {i}." for i in range(6))]
    loop = [f"LOOP {tag} item {i}." for i in range(LOOP)]
    batch = [f"BATCH {tag} {i}." for i in range(BATCH)]
    last = f"LAST {tag} {answer_to(loop[3])} {answer_to(batch[2])}."
    return [*loop, *batch, f"KIDSUB {tag}.", f"KIDTWO {tag}.", last]


def right_answer(tag: str) -> str:
    """What the run must submit."""
    answers = [answer_to(prompt) for prompt in prompts_of(tag)]
    if tag.startswith("chat"):
        return "|".join([*answers, f"sun in {tag}", f"sun in {tag}x"])
    *parts, first, second, last = answers
    return "|".join([*parts, first + second, last, f"noted tool {tag}", "yes", str(sum(range(400_000)))])
