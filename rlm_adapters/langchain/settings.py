"""The settings of a chat model, the properties that LangChain reads, and the configuration of one call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, Literal, TypeAlias, cast

from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import ConfigDict, Field, SecretStr, ValidationError, model_validator
from typing_extensions import override

from rlm_adapters.arguments import unknown_argument
from rlm_adapters.effects import Steps, off_loop
from rlm_adapters.errors import InputError
from rlm_adapters.events import EventHandler
from rlm_adapters.graph import RLMConfig, create_rlm_graph
from rlm_adapters.graph.approval import checked_approve
from rlm_adapters.graph.choices import SandboxChoice
from rlm_adapters.graph.tools import listed_tools, tool_table
from rlm_adapters.langchain.answer import PROVIDER
from rlm_adapters.langchain.call import CallOptions, described, hashed, with_inputs
from rlm_adapters.langchain.direct import DIRECT_BELOW, DirectCall, is_short, with_instructions
from rlm_adapters.langchain.runs import Runs, Runtime
from rlm_adapters.langchain.tools import ToolCallRequired, ToolChoice, caller_tools, instructions_for, returned
from rlm_adapters.models.langchain_private import identity_of_model
from rlm_adapters.models.limits import Limits, limits_remedy
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.providers import chat_model, named_models
from rlm_adapters.models.targets import ChatTarget, model_name
from rlm_adapters.prompts import ChatCodeWriter, CodeWriter, Trajectory, system_prompt
from rlm_adapters.prompts.load import prompted_sub_model, prompted_writer
from rlm_adapters.sandbox import Isolation, SandboxLimits
from rlm_adapters.sandbox.host.runahead import Parallel
from rlm_adapters.traces.writer import TraceWriter, trace_writer
from rlm_adapters.values.answers import OutputSpec
from rlm_adapters.values.content import ContentStore

ToolMode: TypeAlias = Literal["caller", "repl"]


_SHOWN: Final = frozenset(
    {"limits", "instructions", "worked_example", "context_threshold", "direct_below", "tool_mode", "prompt", "require"}
)
_SHOWN_CHARS: Final = 40


class _Shown(str):
    """Text that is not quoted in a repr."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return str(self)


class RLMSettings(BaseChatModel):
    """The fields and properties of `rlm_adapters.ChatRLM`, without its calls."""

    model: BaseChatModel
    """The root LM, which writes the cells; a name such as ``"openai:gpt-5"`` is resolved by ``init_chat_model``."""
    sub_model: BaseChatModel | None = None
    """Answers ``llm_query`` in the cells; None: the root LM."""
    models: dict[str, BaseChatModel] = Field(default_factory=dict)
    """Further models for ``llm_query(model=...)``, by name."""

    limits: Limits = Field(default_factory=Limits)
    """Limits of one call, for its whole call tree."""
    prices: dict[str, Any] = Field(default_factory=dict)
    """Dollars per million tokens (input, output) by model name, for ``Limits.max_cost`` and the reported cost."""
    context: Any = Field(default=None, exclude=True, repr=False)
    """The context of every call: text, JSON values, Documents, paths. A call can replace it."""
    inputs: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)
    """Further variables of every call, by name. A call can add to them and replace them."""
    instructions: str = ""
    """Standing instructions for the root LM, before those of system messages."""
    prompt: Any = None
    """A prompt file instead of the default prompt: a path, or the parsed content of a file that
    ``save("optimised.json")`` of an optimised `rlm_adapters.RLM` (or ``dspy.RLM``) wrote. Needs the extra ``dspy``."""
    worked_example: bool = False
    """Show the root LM a short solved task. This helps weak models."""

    context_threshold: int = Field(default=20_000, ge=1_000)
    """A text in a message that has this many characters or more becomes a variable."""
    direct_below: int = Field(default=DIRECT_BELOW, ge=0)
    """If all messages together have fewer characters, one plain call of the root LM answers; 0: never. At most half of
    the root LM's window, if it is known. With a ``prompt`` file only if you set it."""

    tools: Sequence[Any] = ()
    """Tools of every call. They run inside the loop."""
    tool_mode: ToolMode = "caller"
    """What `bind_tools` does. ``caller``: a tool call in a cell leaves as ``AIMessage.tool_calls``, and the
    ToolMessages resume that cell. ``repl``: the tools run inside the loop."""
    suspended_seconds: float = Field(default=3_600.0, gt=0)
    """How long a run waits for the results of its tool calls. After that, the messages start a new run."""
    max_suspended: int = Field(default=1_000, ge=1)
    """Most runs that wait at the same time. The oldest ones are given up first."""
    checkpointer: BaseCheckpointSaver[str] | None = Field(default=None, exclude=True, repr=False)
    """Where waiting runs are saved; None: in the memory of this process. A durable one needs a durable ``store``."""

    parallel: Parallel = "ahead"
    """``ahead``: sub-LM calls of a plain loop are found ahead and made together (docs/parallel.md). ``stream``: also
    while the root LM is still writing the cell, for its finished statements. ``off``: one after the other."""
    approve: Any = Field(default=None, exclude=True, repr=False)
    """What needs approval before it runs: ``"cells"``, ``"tools"``, ``"all"``, or a function that gets an
    `rlm_adapters.ApprovalRequest`. The LangGraph node around this model asks a person with ``interrupt``."""
    trace_inner: bool = True
    """Whether callbacks and tracers see the runs of the graph and of the inner models, nested under its own run."""
    on_event: EventHandler | None = Field(default=None, exclude=True, repr=False)
    """Called with every `rlm_adapters.Event` of every run."""

    trace: str | os.PathLike[str] | TraceWriter | None = Field(default=None, exclude=True, repr=False)
    """A file for every event of every run, with prompts and answers, or a `rlm_adapters.TraceWriter`."""
    trajectory: bool = False
    """Add the trajectory as plain JSON in ``response_metadata["trajectory"]``, for `rlm_adapters.Trajectory.from_dict`.
    If the message is saved, all its prompts and answers are saved with it."""

    store: ContentStore | None = Field(default=None, exclude=True, repr=False)
    """Where big inputs are stored; None: a private directory."""
    sandbox: SandboxChoice | None = Field(default=None, exclude=True, repr=False)
    """Runs the cells; None: a new sandbox."""
    sandbox_limits: SandboxLimits | None = None
    """Limits of the cells of one run, if ``sandbox`` is not given."""
    require: Isolation | None = None
    """``"os"``: raise an error if the operating system cannot confine the cells."""

    temperature: float | None = None
    """Temperature of the inner models."""
    max_tokens: int | None = None
    """Output tokens of each reply of the inner models, also of cells: a small value cuts code off."""
    stop: list[str] | None = None
    """The answer ends before the first of these. They do not apply to cells."""
    timeout: float | None = None
    """Seconds for one call of an inner model. ``limits.max_seconds`` limits the whole call."""
    max_retries: int | None = None
    """Retries of one call of an inner model."""
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    """Key for models that are given by name. A model object has its own."""
    base_url: str | None = None
    """Address for models that are given by name."""
    streaming: bool | None = None
    """True: ``invoke`` passes its answer to ``on_llm_new_token`` in pieces."""

    runtime: Runtime = Field(default_factory=Runtime, exclude=True, repr=False)
    """Internal."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    def __init__(self, *models: Any, **settings: Any) -> None:
        names = ("model", "sub_model")[: len(models)]
        given = {**dict(zip(names, models, strict=False)), **settings}
        message = (
            "" if len(models) < 3 else f"{len(models)} models: give model, sub_model, and others as models={{...}}"
        )
        try:
            super().__init__(**given)
        except ValidationError as error:
            message = _in_one_line(type(self).__name__, error)
        if message:
            raise InputError(message)

    @model_validator(mode="before")
    @classmethod
    def _as_given(cls, values: Any) -> Any:
        """Convert simple forms: models given by name, a dict of limits, a single tool."""
        if not isinstance(values, dict):
            return values
        known = [*cls.model_fields, *(field.alias for field in cls.model_fields.values() if field.alias)]
        for name, value in values.items():
            if name not in known:
                raise InputError(unknown_argument(cls.__name__, name, value, list(cls.model_fields), limits_remedy))
        if "model" not in values:
            raise InputError(f"{cls.__name__}() needs a model: {cls.__name__}('openai:gpt-5') or model=ChatOpenAI(...)")
        named = {key: values[key] for key in ("api_key", "base_url") if values.get(key) is not None}
        taken: dict[str, Any] = {"model": chat_model(values["model"], **named)}
        if values.get("sub_model") is not None:
            taken["sub_model"] = chat_model(values["sub_model"], "sub_model", **named)
        if isinstance(values.get("models"), Mapping):
            taken["models"] = named_models(values["models"], **named)
        if "limits" in values:
            taken["limits"] = Limits.of(values["limits"])
        if values.get("trace") is not None:
            taken["trace"] = trace_writer(values["trace"])
        if "tools" in values:
            taken["tools"] = listed_tools(values["tools"])
        if "approve" in values:
            taken["approve"] = checked_approve(values["approve"])
        return {**values, **taken}

    # -- properties that LangChain reads

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
        """Everything that the answer depends on. Caches compare it."""
        prompt = system_prompt(Trajectory(query=""), worked_example=self.worked_example)
        if self.prompt is not None:
            prompt = repr(prompted_writer(ChatTarget(self.model), self.prompt)[0].prompt(Trajectory(query="")))
        return {
            "model_name": self.model_name,
            "model": identity_of_model(self.model),
            "sub_model": None if self.sub_model is None else identity_of_model(self.sub_model),
            "models": {name: identity_of_model(model) for name, model in self.models.items()},
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
        return super()._get_invocation_params(stop=stop, **described({**self._own_inputs(), **kwargs}))

    @override
    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        params = {**self._identifying_params, **hashed({**self._own_inputs(), **kwargs}), "stop": stop}
        return str(sorted(params.items(), key=lambda item: item[0]))

    @override
    def _resolve_model_profile(self) -> ModelProfile | None:
        """The profile from those of the inner models. The input has no window; sub-calls can see images."""
        looking = self.sub_model or self.model
        profile = dict(self.model.profile or {})
        for key in [key for key in profile if key.endswith("_inputs")]:
            profile[key] = (looking.profile or {}).get(key, False)
        profile.pop("max_input_tokens", None)
        profile |= {"text_inputs": True, "tool_calling": True, "tool_choice": True, "structured_output": True}
        return cast("ModelProfile", profile)

    @override
    def get_token_ids(self, text: str) -> list[int]:
        """Count with the root LM."""
        return self.model.get_token_ids(text)

    @override
    def get_num_tokens(self, text: str) -> int:
        """Count with the root LM."""
        return self.model.get_num_tokens(text)

    @override
    def get_num_tokens_from_messages(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> int:
        """Count with the root LM."""
        return self.model.get_num_tokens_from_messages(messages, *args, **kwargs)

    @override
    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """The models by name, and the settings, in one line and without keys."""
        yield "model", model_name(self.model)
        if self.sub_model is not None:
            yield "sub_model", model_name(self.sub_model)
        for name, field in type(self).model_fields.items():
            if field.repr and name in _SHOWN & self.model_fields_set:
                shown = repr(getattr(self, name))
                yield name, getattr(self, name) if len(shown) <= _SHOWN_CHARS else _Shown(f"{shown[:_SHOWN_CHARS]}...")

    def _own_inputs(self) -> dict[str, Any]:
        """Context and variables from the fields, for every call."""
        given = {"context": self.context, "inputs": self.inputs}
        return {name: value for name, value in given.items() if value is not None and value != {}}

    # -- one call

    @property
    def _runs_key(self) -> Hashable:
        return (
            self.store, self.sandbox, self.sandbox_limits, self.require,
            self.checkpointer, self.suspended_seconds, self.max_suspended,
        )  # fmt: skip

    @property
    def _runs(self) -> Runs:
        """The graph and its suspended runs. The first call starts processes and may read a file."""
        return self.runtime.runs(self._runs_key, self._make_runs)

    def _ready(self) -> Steps[Runs]:
        """`_runs`, but not on the event loop."""
        known = self.runtime.known(self._runs_key)
        return known if known is not None else (yield off_loop(lambda: self._runs))

    def _configuration(self, runs: Runs, options: CallOptions) -> Steps[tuple[RLMConfig, bool]]:
        """`_configured`, but not on the event loop if it reads a prompt file."""
        if self.prompt is None:
            return self._configured(runs.graph.rlm, options)
        configured: tuple[RLMConfig, bool] = yield off_loop(lambda: self._configured(runs.graph.rlm, options))
        return configured

    def _make_runs(self) -> Runs:
        graph = create_rlm_graph(
            self.model,
            self.sub_model,
            models=self.models,
            limits=self.limits,
            prices=self.prices,
            prompt=self.prompt,
            store=self.store,
            sandbox=self.sandbox,
            sandbox_limits=self.sandbox_limits,
            require=self.require,
        )
        return Runs(graph, saver=self.checkpointer, seconds=self.suspended_seconds, count=self.max_suspended)

    def _configured(self, base: RLMConfig, options: CallOptions) -> tuple[RLMConfig, bool]:
        """The graph's configuration for one call, and whether one message may have several tool calls."""
        inner = dict(options.model_options)
        root = ChatTarget(self.model, options=inner)
        inner.pop("model", None)
        choice = ToolChoice.of(options.tools, options.tool_choice)
        leaving = caller_tools(choice.tools, strict=options.strict)
        parallel = options.parallel is not False
        writer, output = self._writer(root)
        if options.schema is not None:
            output = options.schema.spec
        if choice.required and options.schema is None:
            output = ToolCallRequired(names=tuple(leaving))
        limits = self.limits
        if options.timeout is not None:
            limits = replace(limits, call_timeout=float(options.timeout))
        if options.max_retries is not None:
            limits = replace(limits, max_retries=options.max_retries)
        config = replace(
            base,
            writer=writer,
            sub=prompted_sub_model(ChatTarget(self.sub_model or self.model, options=inner), self.prompt),
            models={name: ChatTarget(model, name, inner) for name, model in self.models.items()},
            tools={**tool_table((*self.tools, *options.repl_tools)), **leaving},
            limits=limits,
            prices=PriceTable(self.prices),
            output=output,
            instructions="\n\n".join(
                part for part in (self.instructions, instructions_for(leaving, parallel=parallel)) if part
            ),
            on_event=self.on_event,
            parallel=self.parallel,
            approve=self.approve,
            listeners=() if self.trace is None else (trace_writer(self.trace),),
        )
        return config, parallel

    def _writer(self, root: ChatTarget) -> tuple[CodeWriter, OutputSpec]:
        """The writer of the cells, and the answer that the prompt asks for."""
        if self.prompt is None:
            return ChatCodeWriter(root, self.worked_example), OutputSpec()
        return prompted_writer(root, self.prompt)

    def _direct_call(self, messages: Sequence[BaseMessage], options: CallOptions) -> DirectCall | None:
        """The direct call for a short conversation; None if direct calls are off, or the call needs a run."""
        if options.context is not None or options.inputs or options.repl_tools or self.tools:
            return None
        if self.prompt is not None and "direct_below" not in self.model_fields_set:
            return None  # the prompt file was optimised for runs
        target = ChatTarget(self.model, options=options.model_options)
        if not is_short(messages, self.direct_below, target.context_window()) or returned(messages) is not None:
            return None
        return DirectCall(
            target=target,
            messages=with_instructions(messages, self.instructions),
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
            "context": self.context,
        }
        if self.inputs:
            kwargs = {**kwargs, "inputs": with_inputs(self.inputs, kwargs.get("inputs"))}
        return CallOptions.read(kwargs, stop=stop, defaults=defaults)


def _in_one_line(name: str, error: ValidationError) -> str:
    """The values that pydantic refused, in one line. Pydantic's text has four lines for each value."""
    found = []
    for item in error.errors():
        original = (item.get("ctx") or {}).get("error")
        if isinstance(original, InputError):
            return str(original)
        where = ".".join(str(part) for part in item["loc"])
        found.append(f"{where}={item['input']!r:.80}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return f"{name}(): " + "; ".join(found)
