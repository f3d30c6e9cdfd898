"""One call of the module: the input of the graph, and the prediction from its result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import dspy
from dspy.dsp.utils.settings import settings
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot

from rlm_adapters.dspy.isolation import arun_apart, run_apart
from rlm_adapters.dspy.predictors import PredictorError
from rlm_adapters.dspy.streaming import stream_reader
from rlm_adapters.dspy.trace import keep_last_step
from rlm_adapters.dspy.writer import PredictorWriter
from rlm_adapters.effects import Steps, adrive, drive
from rlm_adapters.events import Event, EventHandler
from rlm_adapters.graph.compiled import RLMGraph
from rlm_adapters.graph.context import RLMConfig, RLMContext, Run
from rlm_adapters.graph.leases import Lease, leased
from rlm_adapters.graph.ownership import content_of
from rlm_adapters.graph.requests import describe_inputs
from rlm_adapters.prompts.fields import FieldsSpec
from rlm_adapters.prompts.steps import Step
from rlm_adapters.traces.trajectory import Trajectory
from rlm_adapters.values.refs import is_run_owner

_KEYS = ("answer", "finish_reason", "usage", "iterations", "error", "turns")
_UNREAD = "the extract predictor's reply could not be parsed, it began"
_UNREAD_CHARS = 300
RESULT_FIELD = "rlm"
"""The field of a prediction with ``finish_reason``, ``usage``, ``iterations`` and ``error`` of the run."""


@dataclass(slots=True)
class Call:
    """One invocation, sync or async.

    Attributes:
        graph: the graph.
        config: configuration of this call.
        writer: its predictors.
        output: its output fields.
        inputs: values for the graph.
        described: descriptions of the inputs.
        query: title of the run in events.
        thread_id: of a checkpointed run, which continues from its last save.
        resume: the answer to an interrupt.
        whole_trajectories: keep only the last action step in the trace.
        events: collects the events for the trajectory; None: no trajectory.
        cleanup: closes what belongs to this call.
    """

    graph: RLMGraph
    config: RLMConfig
    writer: PredictorWriter
    output: FieldsSpec
    inputs: Mapping[str, Any]
    described: list[dict[str, Any]]
    query: str
    thread_id: str | None = None
    resume: Any = None
    whole_trajectories: bool = True
    events: list[Event] | None = None
    cleanup: ExitStack = field(default_factory=ExitStack)
    _run: Run | None = None

    @property
    def listeners(self) -> tuple[EventHandler, ...]:
        """Listeners for this call only."""
        return () if self.events is None else (self.events.append,)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cleanup.close()

    def run(self) -> dspy.Prediction:
        """Run the graph in this thread."""
        try:
            with stream_reader():
                result = run_apart(self._invoke)
                steps = self._trajectory(result.get("turns") or ())
        except PredictorError as error:
            raise _for_caller(error) from error
        finally:
            self._forget()
        return self._prediction(result, steps)

    async def arun(self) -> dspy.Prediction:
        """Run the graph on the event loop."""
        try:
            with stream_reader():
                result = await arun_apart(self._ainvoke)
                steps = await asyncio.to_thread(self._trajectory, result.get("turns") or ())
        except PredictorError as error:
            raise _for_caller(error) from error
        finally:
            if self._run is not None and is_run_owner(self._run.store.owner):
                await self._run.store.aforget()
        return self._prediction(result, steps)

    # -- in

    def _invoke(self) -> dict[str, Any]:
        config = self._runnable_config()
        run = self._begin(config)
        lease = drive(self._leased(run))
        try:
            given = self._input(run, self.graph.get_state(config) if config else None)
            context = RLMContext(config=self.config, run=run)
            result: dict[str, Any] = self.graph.invoke(given, config, context=context, output_keys=_KEYS)
            return result
        finally:
            if lease is not None:
                drive(lease.release())

    async def _ainvoke(self) -> dict[str, Any]:
        config = self._runnable_config()
        run = self._begin(config)
        lease = await adrive(self._leased(run))
        try:
            state = await self.graph.aget_state(config) if config else None
            given = await asyncio.to_thread(self._input, run, state)
            context = RLMContext(config=self.config, run=run)
            result: dict[str, Any] = await self.graph.ainvoke(given, config, context=context, output_keys=_KEYS)
            return result
        finally:
            if lease is not None:
                await adrive(lease.release())

    def _leased(self, run: Run) -> Steps[Lease | None]:
        """The lease of the thread. It is taken before the state is read."""
        if self.thread_id is None:
            return None
        run.lease = yield from leased(self.graph.checkpointer, self.thread_id, self.config.multitask_strategy)
        return run.lease

    def _begin(self, config: RunnableConfig | None) -> Run:
        """The live parts of the run. Its content is kept until the trajectory is read."""
        self._run = Run(self.config, store=content_of(self.config.store, self.graph.checkpointer, config))
        return self._run

    def _forget(self) -> None:
        if self._run is not None and is_run_owner(self._run.store.owner):
            self._run.store.forget()

    def _input(self, run: Run, saved: StateSnapshot | None) -> Any:
        if saved is not None and saved.tasks:  # `next` is empty if the process was killed after the tasks had written
            waits = self.resume is not None and saved.interrupts
            return Command(resume=self.resume) if waits else None
        return {
            "query": self.query,
            "context": None,
            "inputs": {name: run.store.pack(value) for name, value in self.inputs.items()},
            "files": {},
            "instructions": "",
            "described": describe_inputs(self.described),
        }

    def _runnable_config(self) -> RunnableConfig | None:
        return None if self.thread_id is None else {"configurable": {"thread_id": self.thread_id}}

    # -- out

    def _prediction(self, result: dict[str, Any], steps: list[dict[str, Any]]) -> dspy.Prediction:
        """The prediction for the caller: the typed fields, the trajectory, and how the run ended.

        Fields are None if a limit ended the run before there was an answer.
        """
        if self.whole_trajectories:
            keep_last_step(settings.trace, self.writer.target.made)
        told = {key: result.get(key) for key in ("finish_reason", "usage", "iterations", "error")}
        if self.events is not None:
            told["trajectory"] = Trajectory.from_events(self.events).to_dict()
        if "__interrupt__" in result:
            told |= {"finish_reason": "interrupted", "interrupts": [one.value for one in result["__interrupt__"]]}
            return self._filled(dict.fromkeys(self.output.fields), steps, "", told)
        if result["finish_reason"] not in ("submitted", "text"):
            target = self.writer.extract_target
            if target.unread is not None:
                told["error"] = f"{told['error']}; {_UNREAD}: {target.unread[:_UNREAD_CHARS]!r}"
            reasoning = "Extract forced final output" if target.made else str(told["error"])
            return self._filled(self._extracted(result["answer"]), steps, reasoning, told)
        fields = self.output.typed(result["answer"])
        steps[-1]["output"] = f"FINAL: {fields}"
        return self._filled(fields, steps, steps[-1]["reasoning"], told)

    def _extracted(self, answer: Any) -> dict[str, Any]:
        """The fields of the extract predictor, else the best answer so far. An exception of the predictor is raised."""
        target = self.writer.extract_target
        if target.made:
            return {name: getattr(target.made[-1], name, None) for name in self.output.fields}
        if target.failure is not None:
            raise target.failure
        given = answer if isinstance(answer, Mapping) else {}
        return {name: given.get(name) for name in self.output.fields}

    def _trajectory(self, turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        assert self._run is not None
        unpack, entries = self._run.store.unpack, []
        for turn in turns:
            step = Step.from_text(unpack(turn["reply"]))
            output = unpack(turn["observation"])
            entries.append({"reasoning": step.reasoning, "code": step.bare_code(), "output": output})
        return entries

    def _filled(
        self, fields: Mapping[str, Any], steps: list[dict[str, Any]], reasoning: str, told: dict[str, Any]
    ) -> dspy.Prediction:
        return dspy.Prediction(**fields, trajectory=steps, final_reasoning=reasoning, **{RESULT_FIELD: told})


def _for_caller(error: PredictorError) -> Exception:
    """The exception of a failed LM for the caller: that of the LM, as for any predictor, with a note about the remedy.

    For a sub-LM the note names it, because nothing else shows that it was not the root LM.
    """
    if error.role == "sub-LM":
        raise error
    error.original.add_note(str(error))
    return error.original
