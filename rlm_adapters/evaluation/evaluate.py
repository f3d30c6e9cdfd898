"""`evaluate` and `aevaluate`: models and settings on tasks from seeds, within one budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

from rlm_adapters import __version__
from rlm_adapters.arguments import checked
from rlm_adapters.effects import together
from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.asking import OUT_OF_MONEY, Asker
from rlm_adapters.evaluation.figures import Figures, figures_of
from rlm_adapters.evaluation.results import Result, ResultsFile
from rlm_adapters.evaluation.settings import DEFAULT, Setting, cut_to_window, described, setting_of
from rlm_adapters.evaluation.tasks import FAMILIES, VERSION, make_task, task_id
from rlm_adapters.evaluation.tasks.task import SPLITS, Split
from rlm_adapters.graph.choices import check_prices
from rlm_adapters.models.limits import Limits, limits_remedy
from rlm_adapters.models.prices import ModelPrice, PriceTable
from rlm_adapters.models.providers import chat_model
from rlm_adapters.models.targets import ChatTarget, model_name
from rlm_adapters.models.usage import known_cost
from rlm_adapters.sandbox import Executor, Sandbox

SIZES: Final = (10_000, 100_000)

_NOT_THE_SAME: Final = frozenset({"max_depth", "max_concurrency", "requests_per_minute", "tokens_per_minute"})
"""Limits that may differ between two starts with a file: the depth is the setting's, the others decide on no answer."""

OnResult = Callable[[Result, "Evaluation"], object]


@dataclass(slots=True, kw_only=True)
class Evaluation:
    """What an evaluation has found so far.

    Attributes:
        asked: models, limits, and what the tasks were made from.
        settings: that were compared.
        families: of the tasks.
        sizes: of their contexts, in bytes.
        samples: tasks of each family and size.
        results: those of this plan, the ones that are void left out.
        voids: how many tasks had no answer for a reason that is not the model's; a further start asks them again.
        asked_now: how many tasks were asked in this start.
        spent: dollars, those of earlier starts included, as far as prices are known.
        stopped: why tasks were left out; None: none were.
    """

    asked: Mapping[str, Any]
    settings: Sequence[Setting]
    families: Sequence[str]
    sizes: Sequence[int]
    samples: int
    results: list[Result] = field(default_factory=list)
    voids: int = 0
    asked_now: int = 0
    spent: float = 0.0
    stopped: str | None = None

    @property
    def total(self) -> int:
        """How many results there are to be."""
        return len(self.settings) * len(self.families) * len(self.sizes) * self.samples

    @property
    def complete(self) -> bool:
        """Whether all of them are there."""
        return len(self.results) == self.total

    def figures(self, *, family: bool = False, size: bool = False) -> list[Figures]:
        """Figures of each setting: over all tasks, or apart by family, by size, or by both."""
        return [
            figures_of(self.results, setting.key, one, bytes_)
            for setting in self.settings
            for one in (self.families if family else (None,))
            for bytes_ in (self.sizes if size else (None,))
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: figures; the results are in their file."""
        ways = {"all": {}, "by_family": {"family": True}, "by_size": {"size": True}}
        ways["by_family_and_size"] = {"family": True, "size": True}
        return {
            "form": 1,
            "asked": dict(self.asked),
            "settings": [described(one) for one in self.settings],
            "families": list(self.families),
            "sizes": list(self.sizes),
            "samples": self.samples,
            "done": len(self.results),
            "total": self.total,
            "voids": self.voids,
            "spent": self.spent,
            "stopped": self.stopped,
            "figures": {name: [one.to_dict() for one in self.figures(**by)] for name, by in ways.items()},
        }

    def to_html(self) -> str:
        """A page that stands alone: no script, no address, and everything escaped."""
        from rlm_adapters.evaluation.page import page  # noqa: PLC0415 - it needs this class

        return page(self)


@checked("aevaluate", limits_remedy)
async def aevaluate(
    model: BaseChatModel | str,
    sub_model: BaseChatModel | str | None = None,
    *,
    families: Sequence[str] | None = None,
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
    """Ask models tasks that are made from seeds, under each setting, and score the answers exactly.

    A second start with the same ``output`` goes on: no task that has a result is asked again. More families, sizes,
    samples and settings can be added to it. See docs/evaluation.md.

    Args:
        model: the root LM, and the one that is called directly: a chat model, or a name such as ``"openai:gpt-5"``.
        sub_model: for sub-calls; default: the root LM.
        families: names in `FAMILIES`; default: all.
        sizes: of the contexts, in bytes.
        samples: tasks of each family and size.
        seed: another one gives other tasks.
        split: which half of the seeds; ``"train"`` is what `devset` gives by default.
        settings: see `setting_of`.
        output: file of the results, a line of JSON each.
        limits: of one task; the depth is the setting's.
        prices: dollars per million tokens (input, output) by model name.
        budget: dollars for all of it, earlier starts with the same file included. Prices must be known.
        window: tokens of the model, for ``direct-cut``; default: what its LangChain profile says.
        parallel: tasks at the same time.
        traces: folder that gets the trace of each task.
        sandbox: to share; default: one of its own.
        on_result: called with each result as it comes, and the evaluation so far.

    Raises:
        InputError: an argument is unusable, or the file was begun with other models or limits.
        ModelCallError: a key, a name or an address is wrong; what has a result is kept.
    """
    plan = await asyncio.to_thread(
        _Plan,
        families=families,
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
            sandbox=sandbox or own,  # type: ignore[arg-type] # one of them is there
            window=window,
            traces=folder,
        )
        return await _Start(plan, asker, file, asked, on_result).run()
    finally:
        if own is not None:
            await asyncio.to_thread(own.close)
        await asyncio.to_thread(file.close)


def evaluate(model: BaseChatModel | str, sub_model: BaseChatModel | str | None = None, **options: Any) -> Evaluation:
    """Blocking form of `aevaluate`, with the same arguments.

    Raises:
        InputError: as there; or an event loop runs in this thread, as in a notebook.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(aevaluate(model, sub_model, **options))
    raise InputError("evaluate() inside a running event loop (a notebook?): write `await aevaluate(...)`")


class _Plan:
    """What is to be asked, checked."""

    def __init__(
        self,
        *,
        families: Sequence[str] | None,
        sizes: Sequence[int],
        samples: int,
        seed: int,
        split: str,
        settings: Sequence[str],
        parallel: int,
        budget: float | None,
    ) -> None:
        for name, value, least in (("samples", samples, 1), ("parallel", parallel, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}: give an integer of at least {least}")
        if split not in SPLITS:
            raise InputError(f"split={split!r} is unknown: give one of {', '.join(SPLITS)}")
        if budget is not None and not (isinstance(budget, int | float) and 0 < budget < float("inf")):
            raise InputError(f"budget={budget!r}: give dollars, more than 0")
        self.families = _listed("families", list(FAMILIES) if families is None else families)
        self.sizes = _listed("sizes", sizes)
        for family in self.families:
            for size in self.sizes:
                _check_task(family, size)
        self.settings = [setting_of(one) for one in _listed("settings", settings)]
        self.samples, self.seed, self.split, self.parallel, self.budget = samples, seed, split, parallel, budget

    def cut_at(self, window: int | None) -> int | None:
        """Note the window where inputs are cut to it: results of two windows are of two settings.

        Raises:
            InputError: it is needed, and unknown.
        """
        if all(one.way != "cut" for one in self.settings):
            return None
        if isinstance(window, bool) or not isinstance(window, int):
            raise InputError("direct-cut needs the model's window, which is unknown: give window=128000 (--window)")
        cut_to_window("", "", window)
        self.settings = [replace(one, key=f"{one.key}-{window}") if one.way == "cut" else one for one in self.settings]
        return window

    def tasks(self) -> Iterator[tuple[str, int, int]]:
        """Family, size and number of each task: small ones first, so that a mistake is seen early."""
        for size in sorted(self.sizes):
            for number in range(self.samples):
                for family in self.families:
                    yield family, size, number


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise InputError(f"{name}={values!r}: give a list with at least one")
    return list(dict.fromkeys(values))


def _check_task(family: Any, size: Any) -> None:
    from rlm_adapters.evaluation.tasks import LEAST, MOST  # noqa: PLC0415

    if family not in FAMILIES:
        raise InputError(f"family={family!r} is unknown: give one of {', '.join(FAMILIES)}")
    if isinstance(size, bool) or not isinstance(size, int) or not LEAST <= size <= MOST:
        raise InputError(f"size={size!r}: give bytes from {LEAST:,} to {MOST:,}")


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"traces {path}: {error.strerror}; give a folder that can be written") from error
    return path


class _Start:
    """One start of an evaluation."""

    def __init__(
        self, plan: _Plan, asker: Asker, file: ResultsFile, asked: Mapping[str, Any], on_result: OnResult | None
    ) -> None:
        self._plan = plan
        self._asker = asker
        self._file = file
        self._on_result = on_result
        self._reserved: dict[int, float] = {}
        keys = {(setting.key, self._id(*task)) for setting in plan.settings for task in plan.tasks()}
        before = {one.key: one for one in file.results if not one.void}
        self._done = set(before) & keys
        self._evaluation = Evaluation(
            asked=asked,
            settings=plan.settings,
            families=plan.families,
            sizes=plan.sizes,
            samples=plan.samples,
            results=[one for key, one in before.items() if key in keys],
            spent=sum(known_cost(one.usage) for one in file.results),
        )

    async def run(self) -> Evaluation:
        """Ask all tasks that have no result."""
        left = iter([one for one in self._plan.tasks() if self._missing(*one)])
        await together([self._work(number, left) for number in range(self._plan.parallel)])
        return self._evaluation

    def _id(self, family: str, size: int, number: int) -> str:
        return task_id(family, size, self._plan.split, self._plan.seed, number)

    def _missing(self, family: str, size: int, number: int) -> list[Setting]:
        known = self._id(family, size, number)
        return [one for one in self._plan.settings if (one.key, known) not in self._done]

    async def _work(self, worker: int, left: Iterator[tuple[str, int, int]]) -> None:
        """Make one task after the other, and ask it under each setting."""
        for family, size, number in left:
            if self._is_stopped():
                return
            task = await asyncio.to_thread(make_task, family, size, self._plan.seed, number, self._plan.split)
            for setting in self._missing(family, size, number):
                most = self._share(worker)
                if self._is_stopped():
                    return
                await self._note(worker, await self._asker.ask(setting, task, most))

    def _is_stopped(self) -> bool:
        return self._evaluation.stopped is not None

    def _share(self, worker: int) -> float | None:
        """Reserve a part of the budget: the same for each worker that has none."""
        if self._plan.budget is None:
            return None
        left = self._plan.budget - self._evaluation.spent - sum(self._reserved.values())
        if left <= 0:
            self._stop()
            return 0.0
        self._reserved[worker] = left / (self._plan.parallel - len(self._reserved))
        return self._reserved[worker]

    async def _note(self, worker: int, result: Result) -> None:
        found = self._evaluation
        self._reserved.pop(worker, None)
        found.spent += known_cost(result.usage)
        found.asked_now += 1
        await asyncio.to_thread(self._file.write, result)
        if result.void:
            found.voids += 1
            if result.finish_reason == OUT_OF_MONEY:
                self._stop()
        else:
            found.results.append(result)
        if self._on_result is not None:
            self._on_result(result, found)

    def _stop(self) -> None:
        self._evaluation.stopped = (
            f"the budget of ${self._plan.budget:g} does not suffice (${self._evaluation.spent:.4f} are spent): give a "
            "larger one, and start again to go on"
        )
