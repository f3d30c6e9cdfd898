"""The graph: one static state machine, sync and async, to be called or put into a larger graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Checkpointer

from rlm_adapters.arguments import checked
from rlm_adapters.errors import InputError
from rlm_adapters.events import EventHandler
from rlm_adapters.graph.approval import Approve, checked_approve
from rlm_adapters.graph.choices import SandboxChoice, check_listener, check_prices, executor_of
from rlm_adapters.graph.compiled import RLMGraph
from rlm_adapters.graph.context import RLMConfig
from rlm_adapters.graph.execute import execute
from rlm_adapters.graph.finish import check_final, extract
from rlm_adapters.graph.generate import generate_code
from rlm_adapters.graph.keys import KeyNames, Keys
from rlm_adapters.graph.leases import MultitaskStrategy, check_strategy
from rlm_adapters.graph.node import Node
from rlm_adapters.graph.options import RLMOptions
from rlm_adapters.graph.prepare import prepare
from rlm_adapters.graph.recurse import recurse
from rlm_adapters.graph.routing import Route, after_check, after_execute
from rlm_adapters.graph.sessions import SessionCache
from rlm_adapters.graph.state import RecurseInput, RLMInput, RLMOutput, RLMState
from rlm_adapters.graph.tools import check_name, tool_table
from rlm_adapters.models.limits import Limits, limits_remedy
from rlm_adapters.models.prices import ModelPrice, PriceTable
from rlm_adapters.models.providers import chat_model, named_models
from rlm_adapters.models.targets import ChatTarget, SubModel
from rlm_adapters.prompts import ChatCodeWriter, CodeWriter
from rlm_adapters.prompts.load import prompted_sub_model, prompted_writer
from rlm_adapters.sandbox import Executor, Isolation, SandboxLimits
from rlm_adapters.sandbox.host.runahead import Parallel, check_parallel
from rlm_adapters.traces.writer import TraceWriter, trace_writer
from rlm_adapters.values.answers import OutputSpec
from rlm_adapters.values.content import ContentStore

if TYPE_CHECKING:
    from rlm_adapters.prompts.artefact import PromptSource


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
    sandbox: SandboxChoice | None = None,
    sandbox_limits: SandboxLimits | None = None,
    require: Isolation | None = None,
    parallel: Parallel = "ahead",
    cache_prompts: bool = False,
    warn_tiny_calls: int = 100,
    max_confirmations: int | None = 3,
    direct_below: int = 0,
    stream_tokens: bool = False,
    inputs: KeyNames | None = None,
    context_schema: type[RLMOptions] = RLMOptions,
    remember: bool = True,
    multitask_strategy: MultitaskStrategy | None = "reject",
    approve: Approve | None = None,
    on_event: EventHandler | None = None,
    trace: str | os.PathLike[str] | TraceWriter | None = None,
    trajectory: bool = False,
    name: str = "rlm",
) -> RLMGraph:
    """Make a Recursive Language Model (arXiv 2512.24601) as a LangGraph graph.

    Args:
        model: the root LM: a LangChain chat model, or a name such as ``"openai:gpt-5"`` for ``init_chat_model`` (or a
            `CodeWriter`, as the DSPy adapter has).
        sub_model: answers ``llm_query`` in the cells; default: the root LM.
        models: further models by name, for ``llm_query(model=name)``, and for callers to choose from
            (``context={"model": name}``).
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
        sandbox: a `Sandbox` to share, a `RaySandbox`, or another `Executor`; default: one of its own. ``"monty"``:
            pydantic-monty in place of it (extra ``monty``), which runs less of Python; see docs/security.md.
        sandbox_limits: limits of its sessions, when ``sandbox`` is not given.
        require: ``"os"`` refuses to run where the operating system cannot confine the workers.
        parallel: ``"ahead"``: the sub-LM calls of a plain loop are found ahead and answered together (see
            docs/parallel.md); ``"stream"``: those of statements that are finished also while the root LM still writes
            the rest of its cell, where it streams; ``"off"``: one after the other.
        cache_prompts: answer a prompt that was asked before in the same run with the answer that it got. Off by
            default: asking the same twice is a way of sampling.
        warn_tiny_calls: from so many short sub-calls of one cell on, the root LM is told how many items would fit into
            one prompt; 0: never.
        max_confirmations: end the run when the root LM has repeated an answer so often without submitting it;
            None: never.
        remember: a thread of a checkpointer that is asked again finds the inputs, variables, functions and files of its
            earlier questions, and the root LM is told what was asked and answered; False: it begins anew.
        multitask_strategy: what a call does whose thread is being run by another call, in this process or another one:
            ``"reject"`` raises `ThreadBusyError`, ``"enqueue"`` waits; None does not look. For the savers of SQLite,
            PostgreSQL and memory, where the graph has one of its own (see docs/storage.md).
        approve: what waits for approval before it runs: ``"cells"``, ``"tools"``, ``"all"``, or a function of the
            `ApprovalRequest` that decides or has a person asked (see docs/approval.md). Needs a checkpointer, here or
            in the graph around this one.
        on_event: called with every `Event` of every run.
        trace: a file that gets every event of every run, prompts and answers included, or a `TraceWriter`; see
            docs/seeing-a-run.md.
        trajectory: give ``result["trajectory"]`` with ``invoke`` and ``ainvoke``: what the call did, as plain JSON
            (`Trajectory.from_dict` takes it). A larger graph with a key of this name keeps it in its state.
        direct_below: answer inputs of fewer characters by one direct call of the root LM, without a REPL (not with
            tools or files); 0: never.
        stream_tokens: put the root LM's tokens, cells as it writes them, into LangGraph's ``messages`` stream. Those of
            sub-LMs and child runs stay out.
        inputs: other names for the keys of input and output, such as ``{"query": "question", "answer": "report"}``.
            ``"messages"``: the question is the last human message, the answer becomes a message. ``{"answer":
            ["reports"]}``: the answer goes into a list.
        context_schema: a subclass of `RLMOptions` with keys of your own, which your tools read in LangGraph's runtime.
        name: of the graph, in traces.

    Returns:
        A compiled graph: ``invoke``, ``ainvoke``, ``stream``, ``astream`` with ``{"query": ..., "context": ...}``;
        see `RLMInput` and `RLMOutput`. ``context=`` takes `RLMOptions`.

    Raises:
        InputError: a model, tool, limit or type is unusable.
        IsolationError: ``require`` cannot be met.
    """
    limits = Limits.of(limits)
    check_listener(on_event)
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
    targets = {key: ChatTarget(value, key) for key, value in named_models(models).items()}
    check_prices(limits, price_table, (writer.target, sub, *targets.values()))
    config = RLMConfig(
        writer=writer,
        sub=sub,
        sub_is_root=sub_model is None,
        models=targets,
        tools=table,
        limits=limits,
        prices=price_table,
        output=OutputSpec.of(output_type),
        store=store or ContentStore(),
        sandbox=executor_of(sandbox, sandbox_limits, require),
        sessions=SessionCache(),
        on_event=on_event,
        listeners=() if trace is None else (trace_writer(trace),),
        trajectory=trajectory,
        instructions=instructions,
        parallel=check_parallel(parallel),
        cache_prompts=cache_prompts,
        warn_tiny_calls=warn_tiny_calls,
        max_confirmations=max_confirmations,
        direct_below=direct_below,
        remember=remember,
        multitask_strategy=check_strategy(multitask_strategy),
        approve=checked_approve(approve),
        keys=Keys.of(inputs),
        stream_tokens=stream_tokens,
        direct=ChatTarget(model) if isinstance(model, BaseChatModel) else None,
    )
    if not (isinstance(context_schema, type) and issubclass(context_schema, RLMOptions)):
        raise InputError(f"context_schema={context_schema!r:.80}: give a subclass of RLMOptions")
    if name != "rlm":
        check_name(name.replace("-", "_").replace(" ", "_"), "graph")
    owned = (*(() if isinstance(sandbox, Executor) else (config.sandbox,)), *(() if store else (config.store,)))
    return compile_graph(config, checkpointer=checkpointer, name=name, owned=owned, context_schema=context_schema)


def compile_graph(
    config: RLMConfig,
    *,
    checkpointer: Checkpointer = None,
    name: str = "rlm",
    owned: tuple[Executor | ContentStore, ...] = (),
    context_schema: type[RLMOptions] = RLMOptions,
) -> RLMGraph:
    """Compile the state machine around a configuration; what it owns ends with it."""
    builder = StateGraph(RLMState, context_schema=context_schema, input_schema=RLMInput, output_schema=RLMOutput)
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
