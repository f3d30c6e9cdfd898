"""ChatRLM: a Recursive Language Model as a LangChain chat model.

For the user it is one model call: replace a ``ChatOpenAI`` by it, and inputs of any length work. See
docs/langchain.md.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from typing import Any, TypeAlias

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import LC_ID_PREFIX, AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from typing_extensions import override

from rlm_adapters.effects import Item, Items, Steps, Wait, adrive, drive, off_loop
from rlm_adapters.events import Event
from rlm_adapters.graph.context import Run
from rlm_adapters.graph.tools import listed_tools, tool_table
from rlm_adapters.langchain.answer import PROVIDER, ToldChunks, to_chunks, to_message
from rlm_adapters.langchain.blocks import context_block
from rlm_adapters.langchain.call import RUN_MANAGER, CallOptions, with_config, with_inputs
from rlm_adapters.langchain.counted import forget_once_read, tell_once
from rlm_adapters.langchain.direct import DirectStream, ask_directly
from rlm_adapters.langchain.isolation import adopted, ambient_writer, apart, caller_of, child_callbacks
from rlm_adapters.langchain.outside import Outside
from rlm_adapters.langchain.progress import Progress
from rlm_adapters.langchain.runs import Ask
from rlm_adapters.langchain.schema import StructuredMethod, answer_schema, parser_of, with_raw
from rlm_adapters.langchain.settings import RLMSettings
from rlm_adapters.langchain.tools import (
    ToolChoice,
    openai_tools,
)
from rlm_adapters.models.targets import model_name
from rlm_adapters.traces.trajectory import Trajectory

__all__ = ["ChatRLM", "context_block"]

_RunManager: TypeAlias = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None


class ChatRLM(RLMSettings):
    """A chat model that answers with a Recursive Language Model (arXiv 2512.24601).

    Use ``ChatRLM(model=ChatOpenAI(...))`` like any chat model: in chains, agents and graphs. Long texts, documents and
    files in the messages become variables of a Python REPL. The inner model writes code for this REPL, so the input may
    be far longer than its context window.

    The last human message is the question, system messages are standing instructions. ``ChatRLM(context=...)``, a
    `context_block` in a message, or ``config={"configurable": {"rlm_context": ...}}`` give the context explicitly.

    Raises:
        InputError: (at a call) the messages, tools or schema cannot be used.
        ModelCallError: an inner model failed for good.
        NoAnswerError: the run ended without an answer.
    """

    def close(self) -> None:
        """End the workers and remove private content. Not needed at the end of a process."""
        self.runtime.close()

    def sweep_suspended(self) -> int:
        """Delete the runs in ``checkpointer`` that were not continued within ``suspended_seconds``.

        Runs that this process suspended are deleted automatically. This method deletes those that other processes left
        in a durable checkpointer. Call it from time to time, for example when a service starts.

        Returns:
            Number of deleted runs.
        """
        return drive(self._swept())

    async def asweep_suspended(self) -> int:
        """Async form of `sweep_suspended`."""
        return await adrive(self._swept())

    def _swept(self) -> Steps[int]:
        runs = yield from self._ready()
        return (yield from runs.suspended.sweep_all())

    # -- binding

    @override
    def bind(self, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:  # type: ignore[override] # a private type
        """Bind options. With ``context`` or ``inputs`` the result is a ChatRLM with these fields.

        When tools are bound later, as ``create_agent`` does, LangChain forgets earlier bound options, but not fields.
        """
        own = {name: kwargs.pop(name) for name in ("context", "inputs") if kwargs.get(name) is not None}
        if "inputs" in own:
            own["inputs"] = with_inputs(self.inputs, own["inputs"])
        model = self.model_copy(update=own) if own else self
        return super(ChatRLM, model).bind(**kwargs) if kwargs or not own else model

    @override
    def bind_tools(
        self,
        tools: Any,
        *,
        tool_choice: Any = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the cells.

        Args:
            tools: anything that LangChain accepts as a tool; with ``tool_mode="repl"`` tools and functions.
            tool_choice: ``"auto"``, ``"none"``, ``"any"``, ``"required"``, or the name of a tool. If a call is
                required, the run refuses any other answer.
            strict: check arguments against the tool's schema before the call is returned.
            parallel_tool_calls: False: a message has only one tool call.
            kwargs: further options, as for ``bind``.

        Raises:
            InputError: a tool or the choice cannot be used.
        """
        if self.tool_mode == "repl":
            offered = listed_tools(tools)
            tool_table((*self.tools, *offered))
            return self.bind(repl_tools=offered, **kwargs)
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
        """Answer with an object of a schema. It is validated inside the run, so the root LM can correct it.

        Args:
            schema: pydantic class, TypedDict, JSON schema or function schema; None: any JSON object.
            include_raw: return ``{"raw", "parsed", "parsing_error"}``.
            method: ``function_calling``: the raw message has a tool call; else it has JSON text. The validation is the
                same.
            strict: accepted for compatibility. The validation is always strict.
            kwargs: none are allowed.

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
        return super().invoke(input, config, stop=stop, **with_config(config, kwargs))

    @override
    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        return await super().ainvoke(input, config, stop=stop, **with_config(config, kwargs))

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
        given = with_config(config, kwargs)
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
        given = with_config(config, kwargs)
        async for chunk in super().astream(input, known, stop=stop, **{**given, RUN_MANAGER: manager}):
            yield chunk

    @override
    def stream_events(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return super().stream_events(input, config, **with_config(config, kwargs))

    @override
    def astream_events(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return super().astream_events(input, config, **with_config(config, kwargs))

    @override
    def _should_stream(self, *, async_api: bool, run_manager: _RunManager = None, **kwargs: Any) -> bool:
        # With a run manager, `invoke` is the caller. It would call `_stream` without this manager, so the inner runs
        # would have no parent. `_generate` passes the tokens itself.
        return run_manager is None and super()._should_stream(async_api=async_api, **kwargs)

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        told = self._told(run_manager, async_api=False, **kwargs)
        if run_manager is None or told is None:
            steps = self._steps(messages, self._options(stop, kwargs), run_manager, ambient_writer())
            with self._apart():
                return _result(drive(steps))
        for chunk in self._stream(messages, stop, run_manager, **kwargs):
            run_manager.on_llm_new_token(str(chunk.message.text), chunk=told.add(chunk))
        return told.result()

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        told = self._told(run_manager, async_api=True, **kwargs)
        if run_manager is None or told is None:
            steps = self._steps(messages, self._options(stop, kwargs), run_manager, ambient_writer())
            with self._apart():
                return _result(await adrive(steps))
        async for chunk in self._astream(messages, stop, run_manager, **kwargs):
            await run_manager.on_llm_new_token(str(chunk.message.text), chunk=told.add(chunk))
        return told.result()

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from self._chunks(messages, stop, run_manager, kwargs)

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(aiter(self._chunks(messages, stop, run_manager, kwargs))) as chunks:
            async for chunk in chunks:
                yield chunk

    # -- parts, shared by sync and async

    def _chunks(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, run_manager: _RunManager, kwargs: dict[str, Any]
    ) -> Items[ChatGenerationChunk]:
        """The answer as a stream."""
        manager = run_manager or kwargs.get(RUN_MANAGER)
        if run_manager is not None:
            tell_once(run_manager, traced=self.trace_inner)
        return Items(
            self._streamed(messages, self._options(stop, kwargs), manager, ambient_writer()),
            within=self._apart,
            after=forget_once_read(manager if run_manager is None else None, traced=self.trace_inner),
        )

    def _streamed(
        self,
        messages: Sequence[BaseMessage],
        options: CallOptions,
        manager: _RunManager,
        write: Callable[[Any], None] | None,
    ) -> Generator[Wait | Item[ChatGenerationChunk], Any, None]:
        tokens = yield from self._direct_stream(messages, options, manager)
        if tokens is not None and (yield from tokens.open()):
            yield from tokens.chunks()
            return
        message = yield from self._steps(messages, options, manager, write, tokens)
        for chunk in to_chunks(message):
            yield Item(chunk)

    def _steps(
        self,
        messages: Sequence[BaseMessage],
        options: CallOptions,
        manager: _RunManager,
        write: Callable[[Any], None] | None,
        tried: DirectStream | None = None,
    ) -> Steps[AIMessage]:
        """The answer as a message."""
        runs = yield from self._ready()
        config, parallel = yield from self._configuration(runs, options)
        events: list[Event] = []
        if self.trajectory:
            config = replace(config, listeners=(*config.listeners, events.append))
        earlier = tried.run if tried is not None else None
        direct = self._direct_call(messages, options) if earlier is None else None
        outcome = None
        if direct is not None:
            earlier = Run(config)
            outcome = yield from ask_directly(direct, earlier, self._child_config(manager))
        if outcome is None:
            ask = Ask(
                messages=messages,
                config=config,
                threshold=self.context_threshold,
                context=options.context,
                inputs=options.inputs,
                suspendable=bool(options.tools),
                parallel=parallel,
                callbacks=child_callbacks(manager, traced=self.trace_inner),
                listen=lambda ledger: Progress(manager, write, lambda: ledger.used),
                earlier=earlier.ledger if earlier is not None else None,
                caller=caller_of(options.caller, messages),
                outside=None if config.approve is None else Outside.of(options.caller, messages),
            )
            outcome = yield from runs.ask(ask)
        if events:
            made = yield off_loop(lambda: Trajectory.from_events(events).to_dict())
            outcome = replace(outcome, trajectory=made)
        name = self._told_name(options)
        return to_message(outcome, model_name=name, schema=options.schema, stop=list(options.stop))

    def _direct_stream(
        self, messages: Sequence[BaseMessage], options: CallOptions, manager: _RunManager
    ) -> Steps[DirectStream | None]:
        """The stream of a short conversation; None if it needs a run, or an answer with a schema."""
        direct = self._direct_call(messages, options)
        if direct is None or direct.schema is not None:
            return None
        runs = yield from self._ready()
        config, _ = yield from self._configuration(runs, options)
        events: list[Event] | None = [] if self.trajectory else None
        if events is not None:
            config = replace(config, listeners=(*config.listeners, events.append))
        return DirectStream(direct, Run(config), self._child_config(manager), self._told_name(options), events)

    def _told_name(self, options: CallOptions) -> str:
        return f"{PROVIDER}:{options.model_options.get('model') or model_name(self.model)}"

    def _child_config(self, manager: _RunManager) -> RunnableConfig:
        return {"callbacks": child_callbacks(manager, traced=self.trace_inner)}

    def _apart(self) -> AbstractContextManager[None]:
        return apart(traced=self.trace_inner)

    def _opened(self, config: RunnableConfig | None, kind: Any) -> tuple[RunnableConfig, Any]:
        """A config with the id of the next run, and the manager that this run will have."""
        known = ensure_config(config)
        run_id = known.get("run_id") or uuid.uuid4()
        configured = kind.configure(known.get("callbacks"), None, self.verbose)
        known["run_id"] = run_id
        known["callbacks"] = configured
        return known, adopted(configured, run_id, known)

    def _told(self, run_manager: _RunManager, *, async_api: bool, **kwargs: Any) -> ToldChunks | None:
        """Collects the chunks of a run that is not streamed, but whose handlers want tokens."""
        if run_manager is None:
            return None
        tell_once(run_manager, traced=self.trace_inner)
        if not super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs):
            return None
        return ToldChunks(f"{LC_ID_PREFIX}-{run_manager.run_id}", as_blocks=self.output_version == "v1")


def _result(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])
