"""Ask one task in one setting."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

from rlm_adapters.errors import ModelCallError
from rlm_adapters.evaluation.results import Result
from rlm_adapters.evaluation.scoring import score
from rlm_adapters.evaluation.settings import Setting, cut_to_window
from rlm_adapters.evaluation.tasks.task import Task
from rlm_adapters.graph import create_rlm_graph
from rlm_adapters.models.job import Job, part_of
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import ModelPrice
from rlm_adapters.sandbox import Executor
from rlm_adapters.values.answers import to_plain

_OF_THE_MODEL: Final = frozenset({"context_length", "refusal", "bad_request"})
"""Failures that count as a wrong answer of the model. For other failures the server is the reason."""

OUT_OF_MONEY: Final = "out_of_money"
"""Finish reason of a task that the budget of the evaluation stopped."""

_MOST_SHOWN: Final = 20_000  # longest answer that is kept, in characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Asks tasks. Its attributes are the same for all tasks.

    Attributes:
        model: the root LM, also for direct calls.
        sub_model: for sub-calls; None: the root LM.
        limits: limits of one task.
        prices: as in `create_rlm_graph`.
        sandbox: the sandbox of all runs.
        window: window of the model in tokens, for inputs that are cut.
        traces: folder for the trace of each task.
    """

    model: BaseChatModel
    sub_model: BaseChatModel | None
    limits: Limits
    prices: Mapping[str, ModelPrice | tuple[float, float]]
    sandbox: Executor
    window: int | None
    traces: Path | None

    async def ask(self, setting: Setting, task: Task, job: Job) -> Result:
        """Ask, and score the answer.

        Args:
            setting: the setting.
            task: the task.
            job: its ledger counts what is used, and refuses calls that exceed the budget of the evaluation.

        Raises:
            ModelCallError: a key, a name or an address is wrong, so every other task would fail, too.
            RLMError: the machine failed.
        """
        limits = replace(self.limits, max_depth=setting.depth)
        trace = None if self.traces is None else self.traces / _file_name(setting, task)
        began = time.monotonic()
        try:
            with part_of(job):
                told = await self._run(setting, task, limits, trace)
        except ModelCallError as error:
            if error.permanent:
                raise
            told = {
                "answer": None, "finish_reason": error.kind, "error": str(error), "usage": error.usage, "iterations": 0
            }  # fmt: skip
            void = error.kind not in _OF_THE_MODEL
        else:
            void = False
        refused = job.ledger.refusal is not None
        void = void or refused
        answer = told["answer"]
        # Read a long answer outside the event loop.
        judged, shown = await asyncio.to_thread(lambda: (score(task.question, answer), _shown(answer)))
        return Result(
            setting=setting.key,
            task=task.id,
            family=task.family,
            size=task.size,
            answer=shown,
            expected=task.question.answer,
            correct=judged.correct and not void,
            score=0.0 if void else judged.value,
            why=judged.why,
            finish_reason=OUT_OF_MONEY if refused else told["finish_reason"],
            error=told.get("error"),
            usage=job.ledger.used,
            iterations=told["iterations"],
            seconds=round(time.monotonic() - began, 3),
            trace=None if trace is None else trace.name,
            void=void,
        )

    async def _run(self, setting: Setting, task: Task, limits: Limits, trace: Path | None) -> Mapping[str, Any]:
        question = task.question
        given: dict[str, Any] = {"query": question.text, "context": question.context}
        if setting.way == "rlm" and question.files:
            given["files"] = dict(question.files)
        if setting.way == "cut":
            assert self.window is not None
            given["context"] = await asyncio.to_thread(cut_to_window, question.context, question.text, self.window)
        graph = await asyncio.to_thread(
            create_rlm_graph,
            self.model,
            self.sub_model,
            limits=limits,
            prices=self.prices,
            sandbox=self.sandbox,
            prompt=setting.prompt,
            worked_example=setting.worked_example,
            direct_below=0 if setting.way == "rlm" else sys.maxsize,
            trace=trace,
        )
        try:
            result: Mapping[str, Any] = await graph.ainvoke(given)
            return result
        finally:
            await asyncio.to_thread(graph.close)


def _file_name(setting: Setting, task: Task) -> str:
    """Name of a trace file: letters, digits and characters that every file system accepts."""
    return f"{task.id.replace('/', '-')}.{setting.key.replace('@', '-')}.jsonl"


def _shown(answer: Any) -> Any:
    """An answer in the form that is kept: plain JSON, with only the start of a long text."""
    plain = to_plain(answer)
    return plain[:_MOST_SHOWN] if isinstance(plain, str) else plain
