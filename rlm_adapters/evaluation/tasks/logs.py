"""Sums over a server's log."""

from __future__ import annotations

import random
from typing import Final

from rlm_adapters.evaluation.tasks.task import Question

_SERVICES: Final = ("billing", "search", "login", "upload", "mail", "cart")
_STATUS: Final = (200, 201, 204, 301, 400, 404, 429, 500, 502, 503)
_LINE: Final = 92  # bytes, about


def log_aggregation(chance: random.Random, size: int) -> Question:
    """The total time of the failed requests of one service."""
    service = chance.choice(_SERVICES)
    total, lines = 0, []
    second = 0
    for number in range(max(20, size // _LINE)):
        second += chance.randrange(3)
        name, status, taken = chance.choice(_SERVICES), chance.choice(_STATUS), chance.randrange(1, 2_000)
        if name == service and status >= 500:
            total += taken
        day, hour, minute = 1 + second // 86_400 % 28, second // 3_600 % 24, second // 60 % 60
        lines.append(
            f"2024-05-{day:02}T{hour:02}:{minute:02}:{second % 60:02}Z "
            f"host=web-{chance.randrange(1, 20):02} service={name} status={status} took_ms={taken} request={number:07}"
        )
    return Question(
        text=f"What is the sum of took_ms over all lines of the service {service} with a status of 500 or more? "
        "Reply with the number alone.",
        context="\n".join(lines),
        answer=total,
        kind="number",
    )


def long_output(chance: random.Random, size: int) -> Question:
    """A long list, in order. Models often leave out parts of long lists."""
    count = min(400, max(20, size // 400))
    depots = ["north", "south", "east", "west"]
    depot = chance.choice(depots)
    wanted = [f"{chance.randrange(16**8):08x}" for _ in range(count)]
    others = max(0, size // 62 - count)
    rows: list[str | None] = [*wanted, *([None] * others)]
    chance.shuffle(rows)
    rest = [one for one in depots if one != depot]
    lines, order = [], []
    for number, code in enumerate(rows):
        place = depot if code is not None else chance.choice(rest)
        shown = code or f"{chance.randrange(16**8):08x}"
        if code is not None:
            order.append(shown)
        lines.append(f"parcel {number:06} | depot {place} | weight {chance.randrange(1, 99):02} kg | code {shown}")
    return Question(
        text=f"List the codes of all parcels of the depot {depot}, in the order of the context. Reply with a JSON list "
        "of strings.",
        context="\n".join(lines),
        answer=order,
        kind="list",
    )
