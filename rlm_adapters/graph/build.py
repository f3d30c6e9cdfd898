"""`create_rlm_graph`: build the state machine, sync and async, to call it or to use it in a larger graph."""

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
            `CodeWriter`, as in the DSPy adapter).
        sub_model: answers ``llm_query`` in the cells; default: the root LM.
        models: further models by name, for ``llm_query(model=name)``. Callers can choose one of them
            (``context={"model": name}``).
        tools: LangChain tools and plain functions, sync or async, or a single one. Cells call them by name.
        limits: limits of a run: `Limits`, or a dict of some of its fields.
        prices: dollars per million tokens (input, output) by model name, for ``Limits.max_cost`` and ``usage["cost"]``.
        output_type: type of the answer: a Python type, pydantic model, TypedDict or JSON schema. The answer has plain
            JSON types and is validated inside the run, so the root LM can correct it.
        instructions: instructions for the root LM in every run.
        prompt: a prompt file that ``save("optimised.json")`` of an optimised `RLM` (or ``dspy.RLM``) wrote. It replaces
            the default prompt, and sets ``output_type`` if you do not. Needs the extra ``dspy``.
        worked_example: show the root LM a short solved task first. This helps weak models.
        checkpointer: a LangGraph checkpointer. With it a killed run continues in the middle of a cell without paying
            again. A durable checkpointer needs a durable ``store``.
        store: where big inputs, prompts and answers are stored; default: a private directory that is removed when the
            process ends.
        sandbox: a `Sandbox` to share, a `RaySandbox`, or another `Executor`; default: a new `Sandbox`. ``"monty"``:
            pydantic-monty (extra ``monty``), which runs less of Python; see docs/security.md.
        sandbox_limits: limits of the sessions, if ``sandbox`` is not given.
        require: ``"os"``: raise an error if the operating system cannot confine the workers.
        parallel: ``"ahead"``: the sub-LM calls of a plain loop are found ahead and answered together (see
            docs/parallel.md). ``"stream"``: also while the root LM, if it streams, is still writing the cell, for its
            finished statements. ``"off"``: one after the other.
        cache_prompts: answer a prompt that was asked before in the same run with the earlier answer. Off by default,
            because cells may ask the same prompt twice to get two samples.
        warn_tiny_calls: if one cell makes this many short sub-calls, tell the root LM how many items fit into one
            prompt; 0: never.
        max_confirmations: end the run if the root LM has repeated an answer this many times without submitting it;
            None: never.
        remember: a further question in a thread finds the inputs, variables, functions and files of the earlier
            questions, and the root LM sees the earlier questions and answers. False: it starts from zero.
        multitask_strategy: what a call does if another call, in any process, is running its thread: ``"reject"``
            raises `ThreadBusyError`, ``"enqueue"`` waits; None does not check. For the checkpointers of SQLite,
            PostgreSQL and memory, if they are the graph's own (see docs/storage.md).
        approve: what needs approval before it runs: ``"cells"``, ``"tools"``, ``"all"``, or a function that gets an
            `ApprovalRequest` and decides or asks a person (see docs/approval.md). To ask a person it needs a
            checkpointer, here or in the graph around this one.
        on_event: called with every `Event` of every run.
        trace: a file for every event of every run, with prompts and answers, or a `TraceWriter`; see
            docs/seeing-a-run.md.
        trajectory: add ``result["trajectory"]`` with ``invoke`` and ``ainvoke``, as plain JSON for
            `Trajectory.from_dict`. A larger graph with a key of this name keeps it in its state.
        direct_below: answer inputs of fewer characters by one direct call of the root LM, without a REPL (not with
            tools or files); 0: never.
        stream_tokens: send the root LM's tokens, also of cells, to LangGraph's ``messages`` stream. Tokens of sub-LMs
            and child runs are not sent.
        inputs: other names for the keys of input and output, such as ``{"query": "question", "answer": "report"}``.
            ``"messages"``: the question is the last human message, and the answer becomes a message. ``{"answer":
            ["reports"]}``: the answer is added to a list.
        context_schema: a subclass of `RLMOptions` with your own keys, which your tools read in LangGraph's runtime.
        name: name of the graph in traces.

    Returns:
        A compiled graph: ``invoke``, ``ainvoke``, ``stream``, ``astream`` with ``{"query": ..., "context": ...}``;
        see `RLMInput` and `RLMOutput`. ``context=`` takes `RLMOptions`.

    Raises:
        InputError: a model, tool, limit or type cannot be used.
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
    """Compile the state machine with a configuration. Closing the graph closes what it owns."""
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
