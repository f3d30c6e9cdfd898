"""`map_rows` and `amap_rows`: ask one question about the rows of a data set, within one budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rlm_adapters.arguments import checked
from rlm_adapters.datasets.cluster.engine import RayAsker, RayEngine
from rlm_adapters.datasets.cluster.host import RowSettings
from rlm_adapters.datasets.engines import engine_of
from rlm_adapters.datasets.result import MapResult
from rlm_adapters.datasets.rows import Rows
from rlm_adapters.datasets.start import Asked, Start
from rlm_adapters.effects import run_coroutine
from rlm_adapters.errors import InputError
from rlm_adapters.models.limits import Limits


@checked("amap_rows")
async def amap_rows(
    engine: Any,
    question: str | None,
    rows: Rows,
    output: str | Path,
    *,
    fields: Sequence[str] | str | None = None,
    id: str | None = None,  # noqa: A002 - what everybody calls it
    concurrency: int = 8,
    max_cost: float | None = None,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    retry_failed: bool = False,
    limit: int | None = None,
    ordered: bool = False,
    on_progress: Callable[[MapResult], object] | None = None,
) -> MapResult:
    """Ask a question about each row of a data set. Each answer is written at once, as a line of JSON.

    If you call it again with the same output file, it continues: answered rows are not asked again. See docs/map.md.

    Args:
        engine: a graph of `create_rlm_graph`, a `ChatRLM`, an `RLM` (dspy), or a `RayEngine`, which makes one of these
            on each node of a cluster. Its limits apply to each row. Only those of calls at once, and of calls and
            tokens per minute, apply to all rows together.
        question: with ``{column}`` for a value of the row; ``{{`` and ``}}`` are braces. None for an `RLM`, whose
            inputs are the columns with these names.
        rows: path of JSON lines, of a ``.json`` list or of a ``.csv`` or ``.tsv`` table, ``"-"`` for JSON lines from
            standard input, or an iterable of dicts.
        output: path of the answers; ``"-"`` for standard output, which a second start cannot continue.
        fields: columns of the context: the value of one, or a dict of several. Default: a dict of all columns that the
            question does not name.
        id: column with the id of a row. Default: its line number and a hash, so a changed row is asked again.
        concurrency: rows at the same time.
        max_cost: US dollars of the whole job, with earlier starts. Every model needs a known price.
        max_calls: all model calls of the whole job.
        max_tokens: input and output tokens of the whole job.
        retry_failed: ask rows again that failed in an earlier start.
        limit: read only this many rows.
        ordered: write the answers in the order of the rows, not in the order in which they finish.
        on_progress: called with the result so far, after each row.

    Returns:
        The result. If a budget ended the job, ``stopped`` names it. Failed rows are in the file.

    Raises:
        InputError: an argument, the data or the file of answers cannot be used.
        ModelCallError: a model refuses every call (key, name, address, account). No further row was asked.
        OutputError: answers cannot be written.
        RLMError: many rows failed one after the other, so the others would fail, too.
    """
    for name, value, least in (("concurrency", concurrency, 1), ("limit", 1 if limit is None else limit, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}={value!r}: give a whole number of at least {least}")
    budget = Limits(max_calls=max_calls, max_cost=max_cost, max_tokens=max_tokens)
    async with AsyncExitStack() as stack:
        asker = None
        if isinstance(engine, RayEngine):
            settings = RowSettings(make=engine.make, question=question, fields=fields)
            chosen, asker = await settings.open(stack), partial(RayAsker, engine, settings)
        else:
            chosen = engine_of(engine, question, (fields,) if isinstance(fields, str) else fields)
        budget = replace(budget, max_output_tokens=chosen.limits.max_output_tokens)
        asked = Asked(
            engine=chosen,
            asker=asker,
            rows=rows,
            output=output,
            budget=budget,
            id_field=id,
            concurrency=concurrency,
            limit=limit,
            retry_failed=retry_failed,
            ordered=ordered,
        )
        return await Start(asked, on_progress).run()


@checked("map_rows")
def map_rows(
    engine: Any,
    question: str | None,
    rows: Rows,
    output: str | Path,
    *,
    fields: Sequence[str] | str | None = None,
    id: str | None = None,  # noqa: A002 - what everybody calls it
    concurrency: int = 8,
    max_cost: float | None = None,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    retry_failed: bool = False,
    limit: int | None = None,
    ordered: bool = False,
    on_progress: Callable[[MapResult], object] | None = None,
) -> MapResult:
    """Sync form of `amap_rows`. It blocks, and it also works in a notebook."""
    return run_coroutine(
        lambda: amap_rows(
            engine,
            question,
            rows,
            output,
            fields=fields,
            id=id,
            concurrency=concurrency,
            max_cost=max_cost,
            max_calls=max_calls,
            max_tokens=max_tokens,
            retry_failed=retry_failed,
            limit=limit,
            ordered=ordered,
            on_progress=on_progress,
        )
    )
