"""A question about a program: what a call returns that goes through several of its files."""

from __future__ import annotations

import random
from typing import Final

from rlm_adapters.evaluation.tasks.task import Question

_HOPS: Final = 4
_WORDS: Final = (
    "scan", "merge", "parse", "route", "fold", "pack", "split", "trace", "bind", "shift", "level", "match", "queue",
    "shard", "index", "probe",
)  # fmt: skip


def code_question(chance: random.Random, size: int) -> Question:
    """An integer goes through a chain of functions in different files. Each function adds or multiplies."""
    files = max(_HOPS + 1, size // 900)
    modules = [f"{chance.choice(_WORDS)}_{chance.choice(_WORDS)}_{number:04}" for number in range(files)]
    chain = [(module, f"{chance.choice(_WORDS)}_{chance.randrange(1_000, 10_000)}") for module in
             chance.sample(modules, _HOPS)]  # fmt: skip
    given = chance.randrange(2, 20)
    written: dict[str, str] = {}
    steps = [(chance.choice(("+", "*", "-")), chance.randrange(2, 10)) for _ in chain]
    for place, (module, function) in enumerate(chain):
        sign, number = steps[place]
        after = chain[place + 1] if place + 1 < len(chain) else None
        inner = f"value {sign} {number}"
        body = f"    return {inner}" if after is None else (
            f"    from {after[0]} import {after[1]}\n\n    return {after[1]}({inner})"
        )  # fmt: skip
        written[module] = f"def {function}(value):\n{body}\n"
    value = given
    for sign, number in steps:
        value = value + number if sign == "+" else value * number if sign == "*" else value - number
    text = "".join(_file(chance, module, written.get(module), size // files) for module in modules)
    module, function = chain[0]
    return Question(
        text=f"The context holds the files of a Python program, each after a line `# file: NAME.py`. What does "
        f"`{function}({given})` of {module}.py return? Reply with the number alone.",
        context=text,
        answer=value,
        kind="number",
    )


def _file(chance: random.Random, module: str, wanted: str | None, size: int) -> str:
    """A file of this many bytes, with the requested function somewhere in it."""
    text = f"# file: {module}.py\n"
    parts: list[str] = []
    length = len(text) + len(wanted or "")
    while length < size or not parts:
        name = f"{chance.choice(_WORDS)}_{chance.randrange(1_000, 10_000)}_{len(parts)}"
        sign, number = chance.choice("+-*"), chance.randrange(2, 100)
        parts.append(f"def {name}(value):\n    total = value {sign} {number}\n    return total\n")
        length += len(parts[-1]) + 1
    if wanted is not None:
        parts.insert(chance.randint(0, len(parts)), wanted)
    return text + "\n".join(parts) + "\n"
