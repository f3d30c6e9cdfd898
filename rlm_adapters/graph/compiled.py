"""`RLMGraph`: the compiled graph, and the work before and after its runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphBubbleUp
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot
from pydantic import BaseModel

from rlm_adapters.effects import Steps, adrive, drive
from rlm_adapters.errors import InputError, ModelCallError
from rlm_adapters.events import Event
from rlm_adapters.graph.afterwards import plain_trajectory
from rlm_adapters.graph.clocks import in_order
from rlm_adapters.graph.context import RLMConfig, RLMContext, Run
from rlm_adapters.graph.fencing import fenced
from rlm_adapters.graph.form import input_form, input_model, output_form
from rlm_adapters.graph.growing import at_exit
from rlm_adapters.graph.injection import Caller
from rlm_adapters.graph.keys import OWN, rename_values
from rlm_adapters.graph.langgraph_private import is_inside, runtime_of, saves_at_exit
from rlm_adapters.graph.leases import Lease, leased
from rlm_adapters.graph.options import RLMOptions, configured, options_around, options_schema, read_options
from rlm_adapters.graph.ownership import content_of
from rlm_adapters.graph.requests import pack_input
from rlm_adapters.graph.state import RLMInput, RLMOutput, RLMState
from rlm_adapters.sandbox import Executor
from rlm_adapters.traces.trajectory import Trajectory
from rlm_adapters.values.content import ContentStore
from rlm_adapters.values.refs import is_run_owner
from rlm_adapters.views.drawing import Arrow, drawing_html


class RLMGraph(CompiledStateGraph[RLMState, Any, RLMInput, RLMOutput]):
    """The compiled graph of an RLM.

    It is an ordinary compiled LangGraph graph. It adds work before and after a run: big inputs go into the content
    store, so they are not in checkpoints; the live parts of the run (ledger, limiter, workers) are made; and when the
    run ends (by an answer, an error or a cancellation), its workers end, too.
    """

    rlm: RLMConfig
    owned: tuple[Executor | ContentStore, ...]

    def __init__(self, *, rlm: RLMConfig, owned: tuple[Executor | ContentStore, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rlm = rlm
        self.owned = owned

    def stream(
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        *,
        context: Any = None,
        _events: list[Event] | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Run and stream, like every LangGraph graph. ``invoke`` calls it, too, and collects events."""
        ready = self._ready(input, config, context)
        ready = replace(ready, streamed=self._streamed(ready, config, kwargs))
        if _events is not None and ready.run is not None:
            ready.run.listen(_events.append)
        lease: Lease | None = None
        try:
            lease = drive(self._leased(ready, config))
            packed = self._packed(input, ready, config)
            write = self._writer(input, ready, config, kwargs)
            inner = super(RLMGraph, self._saving(config, kwargs, ready)).stream(
                packed, self._roomy(config, ready), context=ready, **kwargs
            )
            for part in inner:
                yield part if write is None else write(part)
        except GraphBubbleUp:
            raise  # an interrupt has suspended a child run: its worker waits
        except BaseException as error:
            self._abandon(ready, context, error)
            raise
        finally:
            if lease is not None:
                drive(lease.release())
            if ready.run is not None and not ready.depth:
                ready.run.early.close()  # a waiting run makes these calls when it continues
            if ready.run is not None and not ready.depth:
                ready.run.settle()
            if ready.run is not None and _ends_here(ready.run, context):
                ready.run.store.forget()

    async def astream(
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        *,
        context: Any = None,
        _events: list[Event] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Async form of `stream`. ``ainvoke`` calls it, too."""
        ready = await self._aready(input, config, context)
        ready = replace(ready, streamed=self._streamed(ready, config, kwargs))
        if _events is not None and ready.run is not None:
            ready.run.listen(_events.append)
        lease: Lease | None = None
        try:
            lease = await adrive(self._leased(ready, config))
            packed = await asyncio.to_thread(self._packed, input, ready, config)
            inner = super(RLMGraph, self._saving(config, kwargs, ready)).astream(
                packed, self._roomy(config, ready), context=ready, **kwargs
            )
            write = self._writer(input, ready, config, kwargs)
            async for part in inner:
                yield part if write is None else write(part)
        except GraphBubbleUp:
            raise  # an interrupt has suspended a child run: its worker waits
        except BaseException as error:
            self._abandon(ready, context, error)
            raise
        finally:
            if lease is not None:
                await adrive(lease.release())
            if ready.run is not None and not ready.depth:
                ready.run.early.close()  # a waiting run makes these calls when it continues
            if ready.run is not None and not ready.depth and ready.run.must_settle():
                await asyncio.to_thread(ready.run.settle)
            if ready.run is not None and _ends_here(ready.run, context):
                await ready.run.store.aforget()

    def invoke(
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run to the end. The output also has the keys of a larger graph's state that tools have changed."""
        events = self._collected(kwargs.get("context"))
        if events is None:
            return _with_updates(super().invoke(input, config, **kwargs))
        return _with_trajectory(_with_updates(super().invoke(input, config, **kwargs, _events=events)), events)

    async def ainvoke(
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Async form of `invoke`."""
        events = self._collected(kwargs.get("context"))
        if events is None:
            return _with_updates(await super().ainvoke(input, config, **kwargs))
        result = _with_updates(await super().ainvoke(input, config, **kwargs, _events=events))
        return await asyncio.to_thread(_with_trajectory, result, events)

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """The input as a pydantic model."""
        return input_model(self.rlm.keys)

    def get_input_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:  # noqa: ARG002
        """The JSON schema of the input, with descriptions for a form."""
        return input_form(self.rlm.keys)

    def get_output_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:
        """The JSON schema of the output."""
        return output_form(super().get_output_jsonschema(config), self.rlm.keys)

    def get_context_jsonschema(self) -> dict[str, Any]:
        """The JSON schema of ``context=``, with the models and the limits of this graph."""
        return options_schema(self.rlm, self._options_type)

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread: its checkpoints and its content.

        Args:
            thread_id: as in ``config["configurable"]``.

        Raises:
            InputError: the graph has no checkpointer. Inside another graph, delete the thread with that graph's
                checkpointer and call ``ContentStore.delete_thread``.
        """
        self._saver().delete_thread(thread_id)
        self.rlm.store.delete_thread(thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """Async form of `delete_thread`."""
        await self._saver().adelete_thread(thread_id)
        await self.rlm.store.adelete_thread(thread_id)

    def trajectory(self, config: RunnableConfig) -> dict[str, Any]:
        """The trajectory of a saved thread as a dict. `rlm_adapters.Trajectory.from_checkpoint` makes an object of it.

        Raises:
            InputError: the thread has no run, or the graph has no checkpointer.
        """
        self._saver()
        return self._told(self.get_state(config), config)

    async def atrajectory(self, config: RunnableConfig) -> dict[str, Any]:
        """Async form of `trajectory`."""
        self._saver()
        state = await self.aget_state(config)
        return await asyncio.to_thread(self._told, state, config)

    def _told(self, state: StateSnapshot, config: RunnableConfig) -> dict[str, Any]:
        known: RLMConfig | None = self.rlm
        if known is None:  # the graph of the DSPy module: each call has its configuration
            raise InputError("this graph has no configuration: use a graph that create_rlm_graph returned")
        return plain_trajectory(state.values, known, content_of(known.store, self.checkpointer, config))

    def close(self) -> None:
        """End the graph's workers and remove its private content. Not needed at the end of a process.

        A given sandbox or store is not closed.
        """
        self.rlm.sessions.close()
        for part in self.owned:
            part.close()

    # -- parts

    def _saver(self) -> BaseCheckpointSaver[Any]:
        if not isinstance(self.checkpointer, BaseCheckpointSaver):
            raise InputError(
                "this graph has no checkpointer of its own: delete the thread with the saver of the graph around it, "
                "and its content with ContentStore.delete_thread(thread_id)"
            )
        return self.checkpointer

    def _streamed(self, ready: RLMContext, called: RunnableConfig | None, asked: Mapping[str, Any]) -> bool:
        """Whether somebody may read the ``custom`` stream. If not, no events are made for it."""
        if ready.depth:
            return ready.streamed
        modes = asked.get("stream_mode") or self.stream_mode
        return is_inside(called or {}) or "custom" in modes or "custom" in (asked.get("print_mode") or ())

    def _collected(self, context: Any) -> list[Event] | None:
        """A list for the events of a call; None: its trajectory is not wanted, or it is part of a run."""
        part = isinstance(context, RLMContext) and context.run is not None
        known: RLMConfig | None = self.rlm
        return [] if known is not None and known.trajectory and not part else None

    async def _aready(self, called_with: Any, called: RunnableConfig | None, context: Any) -> RLMContext:
        """`_ready`, in a thread if there are options: prices are read from a file, and schemas take time."""
        if isinstance(context, RLMContext) or self._options(called, context) is None:
            return self._ready(called_with, called, context)
        return await asyncio.to_thread(self._ready, called_with, called, context)

    def _ready(self, called_with: Any, called: RunnableConfig | None, context: Any) -> RLMContext:
        """The complete runtime context."""
        if isinstance(context, RLMContext):
            given = context
        else:
            options = self._options(called, context)
            read = None if options is None else read_options(options, self._options_type)
            given = RLMContext(
                config=None if read is None else configured(self.rlm, read),
                caller=_caller(called_with, called, read if context else None),
            )
        config = given.config or self.rlm
        listeners = (given.on_event,) if given.on_event is not None else ()
        return RLMContext(
            config=config,
            run=given.run or Run(config, listeners, content_of(config.store, self.checkpointer, called)),
            depth=given.depth,
            parent_run_id=given.parent_run_id,
            parent_call=given.parent_call,
            streamed=given.streamed,
            graph=given.graph or self._for_children(),
            caller=given.caller,
        )

    def _options(self, called: RunnableConfig | None, context: Any) -> Any:
        """The options of a call: its ``context=``, or the part of the surrounding graph's context; None: none."""
        return context or options_around(_context_around(called), self.name)

    @property
    def _options_type(self) -> type[RLMOptions]:
        return cast("type[RLMOptions]", self.context_schema)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The drawing for a notebook, made here. LangGraph would use a web service."""
        drawn = self.get_graph()
        arrows = [Arrow(edge.source, edge.target, dashed=edge.conditional) for edge in drawn.edges]
        return {
            "text/plain": f"<{type(self).__name__} {self.name}: {', '.join(self.nodes)}>",
            "text/html": drawing_html(
                [node.name for node in drawn.nodes.values()], arrows, source=drawn.draw_mermaid()
            ),
        }

    def _leased(self, ready: RLMContext, called: RunnableConfig | None) -> Steps[Lease | None]:
        """The lease of a call's thread; None if the call has one, or the thread belongs to another graph."""
        run, given = ready.run, (called or {}).get("configurable") or {}
        thread = given.get("thread_id")
        own = isinstance(self.checkpointer, BaseCheckpointSaver) and not is_inside(called or {})
        if run is None or run.lease is not None or ready.depth or not own or thread is None:
            return None
        run.lease = yield from leased(self.checkpointer, str(thread), (ready.config or self.rlm).multitask_strategy)
        return run.lease

    def _saving(self, called: RunnableConfig | None, asked: Mapping[str, Any], ready: RLMContext) -> RLMGraph:
        """The same graph with a checkpointer for this call, prepared to save only at the end if requested."""
        changed: dict[str, Any] = {}
        lease = None if ready.run is None or ready.depth else ready.run.lease
        if lease is not None and lease.of_processes and isinstance(self.checkpointer, BaseCheckpointSaver):
            saver = self.checkpointer if lease.fence is None else fenced(self.checkpointer, lease.fence)
            changed["checkpointer"] = in_order(saver)
        if saves_at_exit(called or {}, asked):
            changed["channels"] = at_exit(self.channels)
        return self.copy(changed) if changed else self

    def _for_children(self) -> RLMGraph:
        """The same graph without a checkpointer: a child run saves into its parent's thread."""
        return self if self.checkpointer is None else self.copy({"checkpointer": None})

    def _packed(self, given: Any, ready: RLMContext, called: RunnableConfig | None) -> Any:
        """The input with big values in the store. First checks that the listeners can write."""
        if ready.run is not None and not ready.depth:
            ready.run.begin()
        if given is None or isinstance(given, Command) or ready.config is None or ready.run is None:
            return given
        config = ready.config
        whole = not ready.depth and not is_inside(called or {})
        keys = OWN if ready.depth else config.keys
        return pack_input(given, ready.run.store, config.tools, config.writer, whole=whole, keys=keys)

    def _writer(
        self, given: Any, ready: RLMContext, called: RunnableConfig | None, asked: Mapping[str, Any]
    ) -> Callable[[Any], Any] | None:
        """A function that renames the values of a stream for the caller; None if the names are the same."""
        inside = is_inside(called or {})
        keys = (ready.config or self.rlm).keys
        if ready.depth or (keys.plain and not inside):
            return None
        mode = asked.get("stream_mode") or ("values" if inside else self.stream_mode)
        subgraphs, version = bool(asked.get("subgraphs")), asked.get("version", "v1")
        around = given if inside else None
        return lambda part: rename_values(
            part, mode, subgraphs=subgraphs, version=version, write=lambda values: keys.write(values, around)
        )

    def _roomy(self, config: RunnableConfig | None, ready: RLMContext) -> RunnableConfig:
        """A config with a higher step limit. Inside a Runnable the limit is 25 steps, about 8 cells."""
        limits = (ready.config or self.rlm).limits
        calls = limits.max_calls if limits.max_calls is not None else 100_000
        steps = 6 * (limits.max_iterations + limits.max_repairs) + 2 * calls + 100
        merged: RunnableConfig = {**(config or {})}
        merged["recursion_limit"] = max(merged.get("recursion_limit") or 0, steps)
        # Parallel sync tasks run in a pool of this size. The run's limiter limits the model calls of the whole tree.
        merged.setdefault("max_concurrency", limits.max_concurrency)
        return merged

    def _abandon(self, ready: RLMContext, given: Any, error: BaseException) -> None:
        """End the workers of a run that failed or was cancelled, and tell its listeners.

        A finished run has no workers, and a run that an interrupt has suspended keeps its worker for a while.
        """
        if ready.run is None:
            return
        if isinstance(error, ModelCallError) and not ready.depth:
            error.usage = ready.run.ledger.used
        for run_id in ready.mine & ready.run.unfinished:
            ready.run.tell(
                Event(
                    type="run_finished",
                    run_id=run_id,
                    parent_run_id=ready.parent_run_id,
                    depth=ready.depth,
                    id=run_id,
                    parent=ready.parent_call,
                    data={
                        "finish_reason": "error",
                        "usage": ready.run.ledger.used,
                        "error": f"{type(error).__name__}: {error}".rstrip(": "),
                    },
                )
            )
        if isinstance(given, RLMContext) and given.run is not None:
            for run_id in ready.mine:  # a child: the rest of the tree continues
                ready.run.finish(run_id)
        else:
            ready.run.close()


def _ends_here(run: Run, given: Any) -> bool:
    """Whether to delete the content of a run now: it is not saved, and this graph made its live parts."""
    made_here = not isinstance(given, RLMContext) or given.run is None
    return made_here and is_run_owner(run.store.owner)


def _with_updates(result: Any) -> Any:
    """The output in the form of a node of a larger graph."""
    updates = result.get("updates") if isinstance(result, dict) else None
    return {**updates, **result} if updates else result


def _with_trajectory(result: Any, events: list[Event]) -> Any:
    """The output with the trajectory."""
    if not isinstance(result, dict):
        return result
    return {**result, "trajectory": Trajectory.from_events(events).to_dict()}


def _caller(called_with: Any, called: RunnableConfig | None, options: RLMOptions | None) -> Caller:
    """The caller of a graph: its state (unless it resumes), and its context or that of the graph around it."""
    state = None if isinstance(called_with, Command) else called_with
    return Caller(state, _context_around(called) if options is None else options)


def _context_around(called: RunnableConfig | None) -> Any:
    """The ``context=`` of the graph around the called one."""
    runtime = runtime_of(ensure_config(called))
    context = getattr(runtime, "context", None)  # the runtime of a server has none
    return context.caller.context if isinstance(context, RLMContext) else context
