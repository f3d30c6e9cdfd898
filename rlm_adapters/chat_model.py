"""ChatRLM: a Recursive Language Model as a LangChain chat model.

From the user's side it is one model call: put it where a ``ChatOpenAI`` stood, and inputs of any length work. See
docs/langchain.md.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, TypeAlias

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import LC_ID_PREFIX, AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import ConfigDict, Field, field_validator
from typing_extensions import override

from rlm_adapters.answers import OutputSpec
from rlm_adapters.budget import Limits, PriceTable
from rlm_adapters.chat.answer import PROVIDER, to_chunks, to_message
from rlm_adapters.chat.blocks import context_block
from rlm_adapters.chat.call import RUN_MANAGER, CallOptions, described, hashed, with_config_context
from rlm_adapters.chat.direct import DirectCall, ask_directly, astream_directly, is_short, stream_directly
from rlm_adapters.chat.isolation import adopted, ambient_writer, apart, child_callbacks
from rlm_adapters.chat.progress import Progress
from rlm_adapters.chat.runs import Ask, Runs
from rlm_adapters.chat.schema import StructuredMethod, answer_schema, parser_of, with_raw
from rlm_adapters.chat.tools import (
    ToolCallRequired,
    ToolChoice,
    caller_tools,
    instructions_for,
    openai_tools,
    returned,
)
from rlm_adapters.content import ContentStore
from rlm_adapters.effects import Steps, adrive, drive
from rlm_adapters.errors import ModelCallError
from rlm_adapters.events import EventHandler
from rlm_adapters.graph import RLMConfig, RLMGraph, create_rlm_graph
from rlm_adapters.graph.tools import tool_table
from rlm_adapters.models import ChatTarget, model_name
from rlm_adapters.prompts import ChatCodeWriter, Trajectory, system_prompt
from rlm_adapters.sandbox import Isolation, Sandbox, SandboxLimits

__all__ = ["ChatRLM", "context_block"]

ToolMode: TypeAlias = Literal["caller", "repl"]
_RunManager: TypeAlias = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None


class _Runtime:
    """The live parts of a chat model, made at its first call and shared by its copies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: Runs | None = None

    def runs(self, make: Callable[[], Runs]) -> Runs:
        """The graph and its suspended runs."""
        with self._lock:
            if self._runs is None:
                self._runs = make()
            return self._runs

    def close(self) -> None:
        """End the workers; the next call makes new ones."""
        with self._lock:
            runs, self._runs = self._runs, None
        if runs is not None:
            runs.close()

    def __deepcopy__(self, memo: Any) -> _Runtime:
        return self

    def __reduce__(self) -> tuple[type[_Runtime], tuple[()]]:
        return _Runtime, ()


class ChatRLM(BaseChatModel):
    """A chat model that answers with a Recursive Language Model (arXiv 2512.24601).

    ``ChatRLM(model=ChatOpenAI(...))`` stands wherever a chat model can stand: in chains, agents and graphs. Long texts,
    documents and files in the messages become variables of a Python REPL in which the inner model works, so the input
    may be far longer than its window.

    The last human message is the question, system messages are standing instructions. ``model.bind(context=...)``, a
    `context_block` in a message, or ``config={"configurable": {"rlm_context": ...}}`` give the context explicitly.

    Raises:
        InputError: (at a call) the messages, tools or schema cannot be used.
        ModelCallError: an inner model failed for good.
        NoAnswerError: the run ended without an answer.
    """

    model: BaseChatModel
    """The root LM, which writes the cells; a name such as ``"openai:gpt-5"`` is resolved by ``init_chat_model``."""
    sub_model: BaseChatModel | None = None
    """Answers ``llm_query`` in the cells; None: the root LM."""
    models: dict[str, BaseChatModel] = Field(default_factory=dict)
    """Further models for ``llm_query(model=...)``, by name."""

    limits: Limits = Field(default_factory=Limits)
    """Bounds of one call, over its whole call tree."""
    prices: dict[str, Any] = Field(default_factory=dict)
    """Dollars per million tokens (input, output) by model name, for ``Limits.max_cost`` and the reported cost."""
    instructions: str = ""
    """Standing instructions for the root LM, before those of system messages."""
    worked_example: bool = False
    """Show the root LM a short solved task; helps weak models."""

    context_threshold: int = Field(default=20_000, ge=1_000)
    """Characters from which a text in a message becomes a variable."""
    direct_below: int = Field(default=0, ge=0)
    """Messages of together fewer characters go straight to the root LM, as one plain call; 0: never."""

    tools: Sequence[Any] = ()
    """Tools that every call has and that run inside the loop."""
    tool_mode: ToolMode = "caller"
    """What `bind_tools` does. ``caller``: a tool call in a cell leaves as ``AIMessage.tool_calls``, and the
    ToolMessages resume that cell. ``repl``: the tools run inside the loop."""
    suspended_seconds: float = Field(default=3_600.0, gt=0)
    """How long a run waits for the results of its tool calls. After that the messages start a fresh run."""
    max_suspended: int = Field(default=1_000, ge=1)
    """How many runs wait at most; the oldest are given up first."""
    checkpointer: BaseCheckpointSaver[str] | None = Field(default=None, exclude=True, repr=False)
    """Where waiting runs are saved; None: in this process's memory. With a durable one use a durable ``store``."""

    trace_inner: bool = True
    """Whether callbacks and tracers see the runs of the graph and of the inner models, nested under this one's."""
    on_event: EventHandler | None = Field(default=None, exclude=True, repr=False)
    """Called with every `rlm_adapters.Event` of every run."""

    store: ContentStore | None = Field(default=None, exclude=True, repr=False)
    """Where big inputs live; None: a private directory."""
    sandbox: Sandbox | None = Field(default=None, exclude=True, repr=False)
    """Runs the cells; None: one of its own."""
    sandbox_limits: SandboxLimits | None = None
    """Limits of one run's cells, when ``sandbox`` is not given."""
    require: Isolation | None = None
    """``"os"`` refuses to run where the operating system cannot confine the cells."""

    temperature: float | None = None
    """Of the inner models."""
    max_tokens: int | None = None
    """Of each reply of the inner models, cells included: a small figure cuts code off."""
    stop: list[str] | None = None
    """The answer ends before the first of these. They do not concern the cells."""
    timeout: float | None = None
    """Seconds for one call of an inner model; ``limits.max_seconds`` bounds the whole."""
    max_retries: int | None = None
    """Of one call of an inner model."""
    streaming: bool | None = None
    """True: ``invoke`` reports its answer to ``on_llm_new_token`` in pieces."""

    runtime: _Runtime = Field(default_factory=_Runtime, exclude=True, repr=False)
    """Internal."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    @field_validator("model", "sub_model", mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - slow to import

        return init_chat_model(value)

    def close(self) -> None:
        """End the workers and remove private content; not needed at the end of a process."""
        self.runtime.close()

    # -- what LangChain asks about a model

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def model_name(self) -> str:
        """``rlm:`` and the name of the root LM."""
        return f"{PROVIDER}:{model_name(self.model)}"

    @property
    @override
    def _identifying_params(self) -> Mapping[str, Any]:
        """All that the answer depends on: caches compare it."""
        prompt = system_prompt(Trajectory(query=""), worked_example=self.worked_example)
        return {
            "model_name": self.model_name,
            "model": _identity(self.model),
            "sub_model": None if self.sub_model is None else _identity(self.sub_model),
            "models": {name: _identity(model) for name, model in self.models.items()},
            "limits": asdict(self.limits),
            "prompt": hashlib.sha256(prompt.encode()).hexdigest(),
            "instructions": self.instructions,
            "context_threshold": self.context_threshold,
            "direct_below": self.direct_below,
            "tools": sorted(tool_table(self.tools)),
            "tool_mode": self.tool_mode,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stop": self.stop,
        }

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop if stop is not None else self.stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params

    @override
    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return super()._get_invocation_params(stop=stop, **described(kwargs))

    @override
    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        params = {**self._identifying_params, **hashed(kwargs), "stop": stop}
        return str(sorted(params.items(), key=lambda item: item[0]))

    @override
    def _resolve_model_profile(self) -> ModelProfile | None:
        """The inner models' profiles: the input is not bound by a window, sub-calls see images and the like."""
        looking = self.sub_model or self.model
        profile = dict(self.model.profile or {})
        for key in [key for key in profile if key.endswith("_inputs")]:
            profile[key] = (looking.profile or {}).get(key, False)
        profile.pop("max_input_tokens", None)
        profile |= {"text_inputs": True, "tool_calling": True, "tool_choice": True, "structured_output": True}
        return ModelProfile(**profile)  # type: ignore[typeddict-item]

    # -- binding

    @override
    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: Any = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the cells.

        Args:
            tools: anything that LangChain takes as a tool; with ``tool_mode="repl"`` tools and functions that can run.
            tool_choice: ``"auto"``, ``"none"``, ``"any"``, ``"required"``, or the name of a tool. A choice that forces
                a call makes the run refuse any other answer.
            strict: check arguments against the tool's schema before the call leaves.
            parallel_tool_calls: False lets one call leave at a time.
            kwargs: further options, as for ``bind``.

        Raises:
            InputError: a tool or the choice cannot be used.
        """
        if self.tool_mode == "repl":
            tool_table((*self.tools, *tools))
            return self.bind(repl_tools=list(tools), **kwargs)
        converted = openai_tools(tools, strict=strict)
        ToolChoice.of(converted, tool_choice)
        options = {"tool_choice": tool_choice, "strict": strict, "parallel_tool_calls": parallel_tool_calls}
        return self.bind(
            tools=converted, **{key: value for key, value in options.items() if value is not None}, **kwargs
        )

    @override
    def with_structured_output(
        self,
        schema: Any = None,
        *,
        include_raw: bool = False,
        method: StructuredMethod = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answer with an object of a schema, validated inside the run, so that the root LM can mend it.

        Args:
            schema: pydantic class, TypedDict, JSON schema or function schema; None takes any JSON object.
            include_raw: give ``{"raw", "parsed", "parsing_error"}``.
            method: ``function_calling``: the raw message carries a tool call; else JSON text. The validation is the
                same.
            strict: accepted for compatibility; the validation is always strict.
            kwargs: none are known.

        Raises:
            ValueError: unknown arguments.
            InputError: the schema cannot be used.
        """
        if kwargs:
            raise ValueError(f"Received unsupported arguments {kwargs}")
        wanted: Any = {"type": "json_object"} if schema is None else schema
        as_tool = method == "function_calling"
        name = answer_schema(wanted).name
        traced = {} if schema is None else {
            "ls_structured_output_format": {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        }  # fmt: skip
        model = self.bind(response_format=wanted, answer_as="tool" if as_tool else "json", **traced)
        parser = parser_of(schema, name, as_tool=as_tool)
        return with_raw(model, parser) if include_raw else model | parser

    # -- calling

    @override
    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        return super().invoke(input, config, stop=stop, **with_config_context(config, kwargs))

    @override
    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        return await super().ainvoke(input, config, stop=stop, **with_config_context(config, kwargs))

    @override
    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        known, manager = self._opened(config, CallbackManager)
        given = with_config_context(config, kwargs)
        yield from super().stream(input, known, stop=stop, **{**given, RUN_MANAGER: manager})

    @override
    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        known, manager = self._opened(config, AsyncCallbackManager)
        given = with_config_context(config, kwargs)
        async for chunk in super().astream(input, known, stop=stop, **{**given, RUN_MANAGER: manager}):
            yield chunk

    @override
    def stream_events(  # type: ignore[override]
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        return super().stream_events(input, config, **with_config_context(config, kwargs))

    @override
    def astream_events(  # type: ignore[override]
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        return super().astream_events(input, config, **with_config_context(config, kwargs))

    @override
    def _should_stream(self, *, async_api: bool, run_manager: _RunManager = None, **kwargs: Any) -> bool:
        # With a run manager it is `invoke` that asks: it would call `_stream` without that manager, and the inner runs
        # would lose their parent. `_generate` tells the tokens by itself.
        return run_manager is None and super()._should_stream(async_api=async_api, **kwargs)

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self._answer(messages, stop, run_manager, kwargs)
        if run_manager is not None and self._tells_tokens(run_manager, async_api=False, **kwargs):
            for chunk in self._told_chunks(message, run_manager):
                run_manager.on_llm_new_token(str(chunk.message.text), chunk=chunk)
        return ChatResult(generations=[ChatGeneration(message=message)])

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = await self._aanswer(messages, stop, run_manager, kwargs)
        if run_manager is not None and self._tells_tokens(run_manager, async_api=True, **kwargs):
            for chunk in self._told_chunks(message, run_manager):
                await run_manager.on_llm_new_token(str(chunk.message.text), chunk=chunk)
        return ChatResult(generations=[ChatGeneration(message=message)])

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        manager = run_manager or kwargs.get(RUN_MANAGER)
        direct = self._direct_call(messages, self._options(stop, kwargs))
        if direct is None or direct.schema is not None:
            yield from to_chunks(self._answer(messages, stop, manager, kwargs))
            return
        tokens = stream_directly(direct, _child_config(manager, traced=self.trace_inner), self.model_name)
        while True:
            with apart(traced=self.trace_inner):
                chunk = next(tokens, None)
            if chunk is None:
                return
            yield chunk

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        manager = run_manager or kwargs.get(RUN_MANAGER)
        direct = self._direct_call(messages, self._options(stop, kwargs))
        if direct is None or direct.schema is not None:
            for chunk in to_chunks(await self._aanswer(messages, stop, manager, kwargs)):
                yield chunk
            return
        tokens = astream_directly(direct, _child_config(manager, traced=self.trace_inner), self.model_name)
        while True:
            with apart(traced=self.trace_inner):
                next_chunk = await anext(tokens, None)
            if next_chunk is None:
                return
            yield next_chunk

    # -- parts

    def _answer(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, manager: Any, kwargs: Mapping[str, Any]
    ) -> AIMessage:
        steps = self._steps(messages, self._options(stop, kwargs), manager, ambient_writer())
        with apart(traced=self.trace_inner):
            return drive(steps)

    async def _aanswer(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, manager: Any, kwargs: Mapping[str, Any]
    ) -> AIMessage:
        steps = self._steps(messages, self._options(stop, kwargs), manager, ambient_writer())
        with apart(traced=self.trace_inner):
            return await adrive(steps)

    def _steps(
        self,
        messages: Sequence[BaseMessage],
        options: CallOptions,
        manager: _RunManager,
        write: Callable[[Any], None] | None,
    ) -> Steps[AIMessage]:
        """One call, in the form that runs sync and async."""
        runs = self.runtime.runs(self._make_runs)
        name = f"{PROVIDER}:{options.model_options.get('model') or model_name(self.model)}"
        config, parallel = self._configured(runs.graph.rlm, options)
        direct = self._direct_call(messages, options)
        outcome = None
        if direct is not None:
            child = _child_config(manager, traced=self.trace_inner)
            try:
                outcome = yield from ask_directly(direct, config, child)
            except ModelCallError as error:
                if error.kind != "context_length":
                    raise
        if outcome is None:
            ask = Ask(
                messages=messages,
                config=config,
                threshold=self.context_threshold,
                context=options.context,
                inputs=options.inputs,
                suspendable=bool(options.tools),
                parallel=parallel,
            )
            callbacks = child_callbacks(manager, traced=self.trace_inner)
            outcome = yield from runs.ask(ask, callbacks, lambda run: Progress(manager, write, lambda: run.ledger.used))
        return to_message(outcome, model_name=name, schema=options.schema, stop=list(options.stop))

    def _make_runs(self) -> Runs:
        graph: RLMGraph = create_rlm_graph(
            self.model,
            self.sub_model,
            models=self.models,
            limits=self.limits,
            prices=self.prices,
            store=self.store,
            sandbox=self.sandbox,
            sandbox_limits=self.sandbox_limits,
            require=self.require,
        )
        return Runs(graph, saver=self.checkpointer, seconds=self.suspended_seconds, count=self.max_suspended)

    def _configured(self, base: RLMConfig, options: CallOptions) -> tuple[RLMConfig, bool]:
        """The graph's configuration for one call, and whether several tool calls may leave together."""
        inner = dict(options.model_options)
        root = ChatTarget(self.model, options=inner)
        inner.pop("model", None)
        choice = ToolChoice.of(options.tools, options.tool_choice)
        leaving = caller_tools(choice.tools, strict=options.strict)
        parallel = options.parallel is not False
        output = OutputSpec() if options.schema is None else options.schema.spec
        if choice.required and options.schema is None:
            output = ToolCallRequired(names=tuple(leaving))
        limits = self.limits
        if options.timeout is not None:
            limits = replace(limits, call_timeout=float(options.timeout))
        if options.max_retries is not None:
            limits = replace(limits, max_retries=options.max_retries)
        config = replace(
            base,
            writer=ChatCodeWriter(root, self.worked_example),
            sub=ChatTarget(self.sub_model or self.model, options=inner),
            models={name: ChatTarget(model, name, inner) for name, model in self.models.items()},
            tools={**tool_table((*self.tools, *options.repl_tools)), **leaving},
            limits=limits,
            prices=PriceTable(self.prices),
            output=output,
            instructions="\n\n".join(
                part for part in (self.instructions, instructions_for(leaving, parallel=parallel)) if part
            ),
            on_event=self.on_event,
        )
        return config, parallel

    def _direct_call(self, messages: Sequence[BaseMessage], options: CallOptions) -> DirectCall | None:
        """The plain call that a short conversation is; None when the router is off or the call needs a run."""
        if options.context is not None or options.inputs or options.repl_tools or self.tools:
            return None
        if not is_short(messages, self.direct_below) or returned(messages) is not None:
            return None
        return DirectCall(
            target=ChatTarget(self.model, options=options.model_options),
            messages=messages,
            prices=PriceTable(self.prices),
            tools=options.tools,
            tool_choice=options.tool_choice,
            parallel=options.parallel,
            schema=options.schema,
            stop=options.stop,
        )

    def _options(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> CallOptions:
        defaults = {
            "stop": self.stop,
            "timeout": self.timeout,
            "max_retries": self.max_retries,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        return CallOptions.read(kwargs, stop=stop, defaults=defaults)

    def _opened(self, config: RunnableConfig | None, kind: Any) -> tuple[RunnableConfig, Any]:
        """A config that fixes the id of the run to come, and the manager that this run will have."""
        known = ensure_config(config)
        run_id = known.get("run_id") or uuid.uuid4()
        configured = kind.configure(known.get("callbacks"), None, self.verbose)
        known["run_id"] = run_id
        known["callbacks"] = configured
        return known, adopted(configured, run_id)

    def _tells_tokens(self, run_manager: Any, *, async_api: bool, **kwargs: Any) -> bool:
        return super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)

    def _told_chunks(self, message: AIMessage, run_manager: Any) -> Iterator[ChatGenerationChunk]:
        """The chunks of a finished message, under the id that the message itself gets."""
        message.id = f"{LC_ID_PREFIX}-{run_manager.run_id}"
        for chunk in to_chunks(message):
            chunk.message.id = message.id
            if self.output_version == "v1":
                blocks: Any = [{**block, "index": 0} for block in chunk.message.content_blocks]
                chunk.message.content = blocks
            yield chunk


def _identity(model: BaseChatModel) -> dict[str, Any]:
    return {**model._identifying_params, "_type": model._llm_type}  # noqa: SLF001 - LangChain's own names


def _child_config(manager: _RunManager, *, traced: bool) -> RunnableConfig:
    return {"callbacks": child_callbacks(manager, traced=traced)}

