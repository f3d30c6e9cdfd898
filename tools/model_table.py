"""The model table: ``make model-table MODELS=openai:gpt-5=openai:gpt-5-mini,openai:gpt-5-mini``.

Each model is evaluated as `rlm eval` does it, on the same tasks; ``ROOT=SUB`` names another model for sub-calls. Keys
and addresses come from the environment (OPENAI_API_KEY, OPENAI_BASE_URL, ...). Results stand in build/models, a file
for each model, and a second start goes on with them. Writes a page with all tables, and the same as JSON beside the
results.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rlm_adapters import __version__
from rlm_adapters.cli.evaluation import parse_size
from rlm_adapters.cli.options import parse_price
from rlm_adapters.errors import RLMError
from rlm_adapters.evaluation import FAMILIES, Evaluation, aevaluate
from rlm_adapters.evaluation.page import dollars, interval, percent, size_text

ROOT = Path(__file__).resolve().parent.parent
_HEADS = (
    "root LM", "sub-LM", "setting", "right", "accuracy", "95 %", "score", "tokens in", "out", "root calls", "sub-calls",
    "cost", "p95", "seconds",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate the models, and write the page.

    Returns:
        The exit status: 0 all tasks have a result, 1 a model failed, 3 some tasks have none.
    """
    parser = argparse.ArgumentParser(prog="python tools/model_table.py", description=__doc__)
    parser.add_argument("models", nargs="+", help="ROOT or ROOT=SUB, with commas or spaces between them")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--sizes", default="10kB,100kB")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--settings", default="direct,rlm-1,rlm-1+example")
    parser.add_argument("--budget", type=float, help="dollars for each model")
    parser.add_argument(
        "--price", action="append", default=[], metavar="MODEL=IN,OUT", help="dollars per million tokens"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "models")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "models.md")
    given = parser.parse_args(arguments)
    names = [name for part in given.models for name in part.split(",") if name]
    given.results.mkdir(parents=True, exist_ok=True)
    try:
        found = asyncio.run(evaluated(names, given))
    except RLMError as error:
        print(f"model table: {error}", file=sys.stderr)  # noqa: T201
        return 1
    (given.results / "models.json").write_text(
        json.dumps({name: one.to_dict() for name, one in found.items()}, indent=2)
    )
    given.page.write_text(page(found))
    return 0 if all(one.complete for one in found.values()) else 3


async def evaluated(names: Sequence[str], given: argparse.Namespace) -> dict[str, Evaluation]:
    """What each model can do, one after the other."""
    found = {}
    for name in names:
        root, _, sub = name.partition("=")
        found[name] = await aevaluate(
            root,
            sub or None,
            families=given.families.split(","),
            sizes=[parse_size(one) for one in given.sizes.split(",")],
            samples=given.samples,
            settings=given.settings.split(","),
            budget=given.budget,
            prices=dict(map(parse_price, given.price)),
            # A name may hold anything: it does not become a path.
            output=given.results / f"{hashlib.sha256(name.encode()).hexdigest()[:12]}.jsonl",
            on_result=lambda result, so_far: print(  # noqa: T201
                f"{len(so_far.results)}/{so_far.total} {result.setting} {result.task}", file=sys.stderr
            ),
        )
    return found


def page(found: dict[str, Evaluation]) -> str:
    """All tables, as Markdown."""
    rows = [
        (
            one.asked["model"], one.asked["sub_model"], figures.setting, f"{figures.correct}/{figures.tasks}",
            percent(figures.accuracy), interval(figures), percent(figures.score), f"{figures.input_tokens:,.0f}",
            f"{figures.output_tokens:,.0f}", f"{figures.root_calls:.1f}", f"{figures.sub_calls:.1f}",
            dollars(figures.cost_median), dollars(figures.cost_p95), f"{figures.seconds_median:.1f}",
        )
        for one in found.values()
        for figures in one.figures()
    ]  # fmt: skip
    first = next(iter(found.values()))
    told = (
        f"{time.strftime('%Y-%m-%d')}, rlm-adapters {__version__}, tasks from seed {first.asked['seed']} "
        f"({first.asked['split']}), {', '.join(map(size_text, first.sizes))}. Tokens, cost and seconds are medians "
        "of a task. `make model-table` makes this page; [Evaluation](evaluation.md) says what is measured."
    )
    parts = ["# Models\n", f"{told}\n", _table(_HEADS, rows)]
    parts += [f"{name}: {one.stopped}.\n" for name, one in found.items() if one.stopped]
    parts += ["## By family\n", _by("family", found, first.families), "## By size\n", _by("size", found, first.sizes)]
    return "\n".join(parts)


def _by(what: str, found: dict[str, Evaluation], values: Sequence[str | int]) -> str:
    """Accuracy apart by family or size, a column for each model and setting."""
    columns = {
        (f"{name}, {figures.setting}", getattr(figures, what)): percent(figures.accuracy)
        for name, one in found.items()
        for figures in one.figures(**{what: True})
    }
    heads = list(dict.fromkeys(name for name, _ in columns))
    rows = [
        [size_text(value) if isinstance(value, int) else value, *(columns[head, value] for head in heads)]
        for value in values
    ]
    return _table([what, *heads], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A name may hold the sign that parts cells."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
