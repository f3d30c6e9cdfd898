"""The graph: one static state machine, sync and async, to be called or put into a larger graph."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, Command

from rlm_adapters.arguments import checked
from rlm_adapters.errors import InputError, ModelCallError
from rlm_adapters.events import Event, EventHandler
from rlm_adapters.graph.context import RLMConfig, RLMContext, Run
from rlm_adapters.graph.execute import execute
from rlm_adapters.graph.finish import check_final, extract
from rlm_adapters.graph.generate import generate_code
from rlm_adapters.graph.node import Node
from rlm_adapters.graph.ownership import content_of
from rlm_adapters.graph.prepare import prepare
from rlm_adapters.graph.recurse import recurse
from rlm_adapters.graph.requests import pack_input
from rlm_adapters.graph.routing import Route, after_check, after_execute
from rlm_adapters.graph.sessions import SessionCache
from rlm_adapters.graph.state import RecurseInput, RLMInput, RLMOutput, RLMState
from rlm_adapters.graph.tools import check_name, tool_table
from rlm_adapters.models.budget import Limits, limits_remedy
from rlm_adapters.models.calling import ChatTarget, SubModel
from rlm_adapters.models.prices import ModelPrice, PriceTable
from rlm_adapters.models.providers import chat_model
from rlm_adapters.prompts import ChatCodeWriter, CodeWriter
from rlm_adapters.prompts.load import prompted_sub_model, prompted_writer
from rlm_adapters.sandbox import Executor, Isolation, MontySandbox, Sandbox, SandboxLimits
from rlm_adapters.values.answers import OutputSpec
from rlm_adapters.values.content import ContentStore

if TYPE_CHECKING:
    from rlm_adapters.prompts.artefact import PromptSource

_TASK_KEY: Final = "__pregel_task_id"
"""Where LangGraph's config names the node of the graph around this one (it has no public name)."""


class RLMGraph(CompiledStateGraph[RLMState, Any, RLMInput, RLMOutput]):
    """The compiled graph of an RLM.

    It is an ordinary compiled LangGraph; what it adds happens around a run: big inputs go into the content store before
    they could enter a checkpoint, the live parts of the run (ledger, limiter, workers) are made, and whatever way the
    run ends (answer, error, cancellation) its workers end with it.
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
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Run and stream, as every LangGraph graph; ``invoke`` goes through here too."""
        ready = self._ready(context, config)
        try:
            yield from super().stream(
                self._packed(input, ready, config), self._roomy(config, ready), context=ready, **kwargs
            )
        except GraphBubbleUp:
            raise  # a child suspended by an interrupt: its worker waits
        except BaseException as error:
            self._abandon(ready, context, error)
            raise
        finally:
            if ready.run is not None and _ends_here(ready.run, context):
                ready.run.store.forget()

    async def astream(
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: RunnableConfig | None = None,
        *,
        context: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Async form of `stream`; ``ainvoke`` goes through here too."""
        ready = self._ready(context, config)
        try:
            packed = await asyncio.to_thread(self._packed, input, ready, config)
            inner = super().astream(packed, self._roomy(config, ready), context=ready, **kwargs)
            async for part in inner:
                yield part
        except GraphBubbleUp:
            raise  # a child suspended by an interrupt: its worker waits
        except BaseException as error:
            self._abandon(ready, context, error)
            raise
        finally:
            if ready.run is not None and _ends_here(ready.run, context):
                await asyncio.to_thread(ready.run.store.forget)

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread: its checkpoints, and the content that only they refer to.

        Args:
            thread_id: as it stands in ``config["configurable"]``.

        Raises:
            InputError: the graph has no saver; inside another graph, delete the thread with that graph's saver and call
                ``ContentStore.delete_thread``.
        """
        self._saver().delete_thread(thread_id)
        self.rlm.store.delete_thread(thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """Async form of `delete_thread`."""
        await self._saver().adelete_thread(thread_id)
        await self.rlm.store.adelete_thread(thread_id)

    def close(self) -> None:
        """End the graph's workers and remove its private content; not needed at the end of a process.

        A sandbox or store that it was given is somebody else's to close.
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

    def _ready(self, context: Any, called: RunnableConfig | None) -> RLMContext:
        """The runtime context with nothing missing; a context that is not ours (a parent graph's) is left alone."""
        given = context if isinstance(context, RLMContext) else RLMContext()
        config = given.config or self.rlm
        listeners = (given.on_event,) if given.on_event is not None else ()
        return RLMContext(
            config=config,
            run=given.run or Run(config, listeners, content_of(config.store, self.checkpointer, called)),
            depth=given.depth,
            parent_run_id=given.parent_run_id,
            graph=given.graph or self._for_children(),
        )

    def _for_children(self) -> RLMGraph:
        """The same graph without a saver of its own: a child saves into its parent's thread."""
        return self if self.checkpointer is None else self.copy({"checkpointer": None})

    def _packed(self, given: Any, ready: RLMContext, called: RunnableConfig | None) -> Any:
        if given is None or isinstance(given, Command) or ready.config is None or ready.run is None:
            return given
        config = ready.config
        as_node = _TASK_KEY in ((called or {}).get("configurable") or {})
        return pack_input(given, ready.run.store, config.tools, config.writer, whole=not as_node and not ready.depth)

    def _roomy(self, config: RunnableConfig | None, ready: RLMContext) -> RunnableConfig:
        """Room for the steps of a whole run: inside a Runnable the ambient limit is 25 supersteps, about 8 cells."""
        limits = (ready.config or self.rlm).limits
        calls = limits.max_calls if limits.max_calls is not None else 100_000
        steps = 6 * (limits.max_iterations + limits.max_repairs) + 2 * calls + 100
        merged: RunnableConfig = {**(config or {})}
        merged["recursion_limit"] = max(merged.get("recursion_limit") or 0, steps)
        # Sync fan-out runs in a pool of that size; the run's own limiter bounds the model calls of the whole tree.
        merged.setdefault("max_concurrency", limits.max_concurrency)
        return merged

    def _abandon(self, ready: RLMContext, given: Any, error: BaseException) -> None:
        """End the workers of a run that failed or was cancelled, and tell its listeners.

        One that ended has none any more, and one that an interrupt suspended keeps its worker for a while.
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
                    data={
                        "finish_reason": "error",
                        "usage": ready.run.ledger.used,
                        "error": f"{type(error).__name__}: {error}".rstrip(": "),
                    },
                )
            )
        if isinstance(given, RLMContext) and given.run is not None:
            for run_id in ready.mine:  # a child: the rest of the tree goes on
                ready.run.finish(run_id)
        else:
            ready.run.close()


def _ends_here(run: Run, given: Any) -> bool:
    """Whether the content of a run goes now: nobody saves it, and whoever made its live parts is this graph."""
    made_here = not isinstance(given, RLMContext) or given.run is None
    return made_here and run.store.owner.startswith("run-")


@checked("create_rlm_graph", limits_remedy)
def create_rlm_graph(
    model: BaseChatModel | CodeWriter | str,
    sub_model: BaseChatModel | str | None = None,
    *,
    models: Mapping[str, BaseChatModel | str] | None = None,
    tools: Iterable[Any] | Callable[..., Any] = (),
    limits: Limits | Mapping[str, Any] | None = None,
    prices: Mapping[str, ModelPrice | tuple[float, float]] | None = None,
    output_type: Any = None,
    instructions: str = "",
    prompt: PromptSource | None = None,
    worked_example: bool = False,
    checkpointer: Checkpointer = None,
    store: ContentStore | None = None,
    sandbox: Executor | Literal["monty"] | None = None,
    sandbox_limits: SandboxLimits | None = None,
    require: Isolation | None = None,
    parallel: Literal["ahead", "off"] = "ahead",
    cache_prompts: bool = False,
    warn_tiny_calls: int = 100,
    max_confirmations: int | None = 3,
    direct_below: int = 0,
    on_event: EventHandler | None = None,
    name: str = "rlm",
) -> RLMGraph:
    """Make a Recursive Language Model (arXiv 2512.24601) as a LangGraph graph.

    Args:
        model: the root LM: a LangChain chat model, or a name such as ``"openai:gpt-5"`` for ``init_chat_model`` (or a
            `CodeWriter`, as the DSPy adapter has).
        sub_model: answers ``llm_query`` in the cells; default: the root LM.
        models: further models by name for ``llm_query(model=name)``.
        tools: LangChain tools and plain functions, sync or async, or a single one; cells call them by name.
        limits: bounds of a run: `Limits`, or a dict of some of its fields.
        prices: dollars per million tokens (input, output) by model name, for ``Limits.max_cost`` and ``usage["cost"]``.
        output_type: what the answer must be: a Python type, pydantic model, TypedDict or JSON schema. The answer is
            plain JSON types, validated inside the run, so that the root LM can mend it.
        instructions: standing instructions for the root LM.
        prompt: a prompt file: what ``save("optimised.json")`` of an optimised `RLM` (or ``dspy.RLM``) wrote. It takes
            the place of the default prompt, and gives ``output_type`` if that is not given. Needs the ``dspy`` extra.
        worked_example: show the root LM a short solved task first; helps weak models.
        checkpointer: a LangGraph saver. With one, a killed run goes on in the middle of a cell without paying again,
            and ``store`` should be a durable one.
        store: where big inputs, prompts and answers live; default: a private directory, removed at the process's end.
        sandbox: a `Sandbox` to share, or another `Executor`; default: one of its own. ``"monty"``: pydantic-monty in
            place of it (extra ``monty``), which runs less of Python; see docs/security.md.
        sandbox_limits: limits of its sessions, when ``sandbox`` is not given.
        require: ``"os"`` refuses to run where the operating system cannot confine the workers.
        parallel: ``"ahead"``: the sub-LM calls of a plain loop are found ahead and answered together (see
            docs/parallel.md); ``"off"``: one after the other.
        cache_prompts: answer a prompt that was asked before in the same run with the answer that it got. Off by
            default: asking the same twice is a way of sampling.
        warn_tiny_calls: from so many short sub-calls of one cell on, the root LM is told how many items would fit into
            one prompt; 0: never.
        max_confirmations: end the run when the root LM has repeated an answer so often without submitting it;
            None: never.
        on_event: called with every `Event` of every run.
        direct_below: answer inputs of fewer characters by one direct call of the root LM, without a REPL (not with
            tools or files); 0: never.
        name: of the graph, in traces.

    Returns:
        A compiled graph: ``invoke``, ``ainvoke``, ``stream``, ``astream`` with ``{"query": ..., "context": ...}``;
        see `RLMInput` and `RLMOutput`.

    Raises:
        InputError: a model, tool, limit or type is unusable.
        IsolationError: ``require`` cannot be met.
    """
    limits = Limits.of(limits)
    if on_event is not None and not callable(on_event):
        raise InputError(f"on_event={on_event!r}: give a function that takes an Event")
    sub: SubModel
    writer, sub = _models(model, sub_model, worked_example)
    if prompt is not None:
        if not isinstance(writer.target, ChatTarget):
            raise InputError(f"prompt={prompt!r:.80} goes with a chat model; {type(model).__name__} has its own")
        writer, fields = prompted_writer(writer.target, prompt)
        sub = prompted_sub_model(sub, prompt)
        output_type = fields if output_type is None else output_type
    table = tool_table(tools)
    price_table = PriceTable(prices)
    targets = {key: ChatTarget(chat_model(value, f"models[{key!r}]"), key) for key, value in (models or {}).items()}
    if limits.max_cost is not None:
        for target in (writer.target, sub, *targets.values()):
            price_table.require(target.name)
    config = RLMConfig(
        writer=writer,
        sub=sub,
        models=targets,
        tools=table,
        limits=limits,
        prices=price_table,
        output=OutputSpec.of(output_type),
        store=store or ContentStore(),
        sandbox=_executor(sandbox, sandbox_limits or SandboxLimits(), require),
        sessions=SessionCache(),
        on_event=on_event,
        instructions=instructions,
        parallel=_parallel(parallel),
        cache_prompts=cache_prompts,
        warn_tiny_calls=warn_tiny_calls,
        max_confirmations=max_confirmations,
        direct_below=direct_below,
        direct=ChatTarget(model) if isinstance(model, BaseChatModel) else None,
    )
    if name != "rlm":
        check_name(name.replace("-", "_").replace(" ", "_"), "graph")
    owned = (*(() if isinstance(sandbox, Executor) else (config.sandbox,)), *(() if store else (config.store,)))
    return compile_graph(config, checkpointer=checkpointer, name=name, owned=owned)


def _executor(
    sandbox: Executor | Literal["monty"] | None, limits: SandboxLimits, require: Isolation | None
) -> Executor:
    if sandbox is None:
        return Sandbox(limits=limits, require=require)
    if sandbox == "monty":
        return MontySandbox(limits=limits, require=require)
    if isinstance(sandbox, str):
        raise InputError(f'sandbox={sandbox!r} is unknown: use "monty", or give a Sandbox')
    return sandbox


def compile_graph(
    config: RLMConfig,
    *,
    checkpointer: Checkpointer = None,
    name: str = "rlm",
    owned: tuple[Executor | ContentStore, ...] = (),
) -> RLMGraph:
    """Compile the state machine around a configuration; what it owns ends with it."""
    builder = StateGraph(RLMState, input_schema=RLMInput, output_schema=RLMOutput)
    builder.add_node("prepare", Node(prepare, "prepare"))
    builder.add_node("generate_code", Node(generate_code, "generate_code"))
    builder.add_node("execute", Node(execute, "execute"))
    builder.add_node("recurse", Node(recurse, "recurse"), input_schema=RecurseInput)
    builder.add_node("check_final", Node(check_final, "check_final"))
    builder.add_node("extract", Node(extract, "extract"))
    builder.add_edge(START, "prepare")
    builder.add_edge("prepare", "generate_code")
    builder.add_edge("generate_code", "execute")
    builder.add_conditional_edges("execute", Route(after_execute), ["recurse", "execute", "check_final"])
    builder.add_edge("recurse", "execute")
    builder.add_conditional_edges("check_final", Route(after_check), ["generate_code", "extract", END])
    builder.add_edge("extract", END)
    compiled = builder.compile(checkpointer=checkpointer, name=name)
    return RLMGraph(rlm=config, owned=owned, **vars(compiled))


def _models(
    model: BaseChatModel | CodeWriter | str, sub_model: BaseChatModel | str | None, worked_example: bool
) -> tuple[CodeWriter, ChatTarget]:
    if hasattr(model, "prompt") and hasattr(model, "target"):
        return cast("CodeWriter", model), ChatTarget(chat_model(sub_model, "sub_model"))
    root = chat_model(model)
    sub = root if sub_model is None else chat_model(sub_model, "sub_model")
    return ChatCodeWriter(ChatTarget(root), worked_example), ChatTarget(sub)


def _parallel(value: Any) -> Literal["ahead", "off"]:
    if value not in ("ahead", "off"):
        raise InputError(f'parallel={value!r} is unknown: use "ahead" or "off"')
    return "ahead" if value == "ahead" else "off"
