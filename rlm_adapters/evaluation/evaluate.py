"""`evaluate` and `aevaluate`: models and settings on tasks from seeds and from public data, within one budget."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

from rlm_adapters import __version__
from rlm_adapters.arguments import checked
from rlm_adapters.effects import run_coroutine
from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.asking import Asker
from rlm_adapters.evaluation.evaluation import Evaluation
from rlm_adapters.evaluation.plan import Plan
from rlm_adapters.evaluation.results import ResultsFile
from rlm_adapters.evaluation.settings import DEFAULT
from rlm_adapters.evaluation.start import OnResult, Start
from rlm_adapters.evaluation.tasks import VERSION
from rlm_adapters.evaluation.tasks.task import Split
from rlm_adapters.graph.choices import check_prices
from rlm_adapters.models.limits import Limits, limits_remedy
from rlm_adapters.models.prices import ModelPrice, PriceTable
from rlm_adapters.models.providers import chat_model
from rlm_adapters.models.targets import ChatTarget, model_name
from rlm_adapters.sandbox import Executor, Sandbox

SIZES: Final = (10_000, 100_000)

_NOT_THE_SAME: Final = frozenset({"max_depth", "max_concurrency", "requests_per_minute", "tokens_per_minute"})
"""Limits that may differ between two starts with a file. The setting has the depth; the others change no answer."""


@checked("aevaluate", limits_remedy)
async def aevaluate(
    model: BaseChatModel | str,
    sub_model: BaseChatModel | str | None = None,
    *,
    families: Sequence[str] | None = None,
    data: Sequence[str] = (),
    sizes: Sequence[int] = SIZES,
    samples: int = 5,
    seed: int = 0,
    split: Split = "held_out",
    settings: Sequence[str] = DEFAULT,
    output: str | Path,
    limits: Limits | Mapping[str, Any] | None = None,
    prices: Mapping[str, ModelPrice | tuple[float, float]] | None = None,
    budget: float | None = None,
    window: int | None = None,
    parallel: int = 4,
    traces: str | Path | None = None,
    sandbox: Executor | None = None,
    on_result: OnResult | None = None,
) -> Evaluation:
    """Ask models tasks from seeds or public data, in each setting, and score the answers exactly.

    A second start with the same ``output`` continues: a task with a result is not asked again. You can add families,
    sizes, samples and settings. See docs/evaluation.md.

    Args:
        model: the root LM, also for direct calls: a chat model, or a name such as ``"openai:gpt-5"``.
        sub_model: for sub-calls; default: the root LM.
        families: names in `FAMILIES`; default: all, or none if there is ``data``.
        data: public data as ``"oolong:PATH"``: a name in `rlm_adapters.evaluation.public.DATASETS`, and a local file or
            folder in its published form.
        sizes: sizes of the contexts, in bytes.
        samples: tasks of each family and size, and of each public data set.
        seed: another seed gives other tasks.
        split: the half of the seeds. `devset` uses ``"train"`` by default.
        settings: see `setting_of`.
        output: file of the results, one line of JSON for each.
        limits: limits of one task. The depth comes from the setting.
        prices: dollars per million tokens (input, output) by model name.
        budget: dollars for all starts with the same file. Prices must be known.
        window: window of the model in tokens, for ``direct-cut``; default: the value in its LangChain profile.
        parallel: tasks at the same time.
        traces: folder for the trace of each task.
        sandbox: a sandbox to share; default: a new one.
        on_result: called with each result, and the evaluation so far.

    Raises:
        InputError: an argument is wrong, or the file was started with other models or limits.
        ModelCallError: a key, a name or an address is wrong. Results are kept.
    """
    plan = await asyncio.to_thread(
        Plan,
        families=families,
        data=data,
        sizes=sizes,
        samples=samples,
        seed=seed,
        split=split,
        settings=settings,
        parallel=parallel,
        budget=budget,
    )
    root = await asyncio.to_thread(chat_model, model)
    sub = None if sub_model is None else await asyncio.to_thread(chat_model, sub_model, "sub_model")
    bounds = Limits.of(limits)
    window = plan.cut_at(window or ChatTarget(root).context_window())
    if budget is not None:
        check = Limits.of({"max_cost": budget})
        targets = [ChatTarget(one) for one in (root, sub) if one is not None]
        await asyncio.to_thread(check_prices, check, PriceTable(prices), targets)
    asked = {
        "tasks": VERSION,
        "seed": plan.seed,
        "split": split,
        "model": model_name(root),
        "sub_model": model_name(sub or root),
        "limits": {name: value for name, value in asdict(bounds).items() if name not in _NOT_THE_SAME},
        "version": __version__,
    }
    folder = None if traces is None else await asyncio.to_thread(_folder, Path(traces))
    file = await asyncio.to_thread(ResultsFile, output, asked)
    own = await asyncio.to_thread(Sandbox) if sandbox is None else None
    try:
        asker = Asker(
            model=root,
            sub_model=sub,
            limits=bounds,
            prices=prices or {},
            sandbox=sandbox or own,  # type: ignore[arg-type] # one of them is set
            window=window,
            traces=folder,
        )
        return await Start(plan, asker, file, asked, on_result).run()
    finally:
        if own is not None:
            await asyncio.to_thread(own.close)
        await asyncio.to_thread(file.close)


@checked("evaluate", limits_remedy)
def evaluate(
    model: BaseChatModel | str,
    sub_model: BaseChatModel | str | None = None,
    *,
    families: Sequence[str] | None = None,
    data: Sequence[str] = (),
    sizes: Sequence[int] = SIZES,
    samples: int = 5,
    seed: int = 0,
    split: Split = "held_out",
    settings: Sequence[str] = DEFAULT,
    output: str | Path,
    limits: Limits | Mapping[str, Any] | None = None,
    prices: Mapping[str, ModelPrice | tuple[float, float]] | None = None,
    budget: float | None = None,
    window: int | None = None,
    parallel: int = 4,
    traces: str | Path | None = None,
    sandbox: Executor | None = None,
    on_result: OnResult | None = None,
) -> Evaluation:
    """Sync form of `aevaluate`. Blocks. Works in a notebook, too."""
    return run_coroutine(
        lambda: aevaluate(
            model,
            sub_model,
            families=families,
            data=data,
            sizes=sizes,
            samples=samples,
            seed=seed,
            split=split,
            settings=settings,
            output=output,
            limits=limits,
            prices=prices,
            budget=budget,
            window=window,
            parallel=parallel,
            traces=traces,
            sandbox=sandbox,
            on_result=on_result,
        )
    )


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"traces {path}: {error.strerror}; give a folder that can be written") from error
    return path
