"""`RLM`: a drop-in for ``dspy.RLM`` whose loop is the LangGraph state machine.

    rlm = RLM("context, query -> answer: int")
    rlm(context=book, query="How many chapters are there?").answer

It is a subclass of ``dspy.RLM``, with the same signature, tools, predictors, saved files, ``SUBMIT`` and prediction.
The loop, the sandbox, limits, recursion, parallel sub-calls and checkpoints are those of this package.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, cast

import dspy
from dspy.dsp.utils.settings import settings
from dspy.primitives.code_interpreter import (
    CodeInterpreter,
    _validate_interpreter,
    _validate_interpreter_factory,
    resolve_interpreter_factory,
)
from dspy.primitives.sandbox_serializable import SandboxSerializable
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langgraph.types import Checkpointer

from rlm_adapters.arguments import checked
from rlm_adapters.dspy.call import RESULT_FIELD, Call
from rlm_adapters.dspy.foreign import InterpreterSandbox
from rlm_adapters.dspy.inputs import Prelude, PreparedSandbox, described, plain_inputs, to_repl, with_note
from rlm_adapters.dspy.interpreter import RestrictedPythonInterpreter
from rlm_adapters.dspy.limits import DEFAULTS, MAX_LLM_CALLS, merged_limits
from rlm_adapters.dspy.lm_bridge import dspy_lm
from rlm_adapters.dspy.predictors import ActionTarget, PredictorTarget
from rlm_adapters.dspy.runtime import Runtime
from rlm_adapters.dspy.sub_agents import SubAgents
from rlm_adapters.dspy.submodel import SubLM, sub_call_signature
from rlm_adapters.dspy.tools import repl_tools
from rlm_adapters.dspy.writer import PredictorWriter
from rlm_adapters.errors import InputError
from rlm_adapters.events import Event, EventHandler
from rlm_adapters.graph.approval import Approve, checked_approve
from rlm_adapters.graph.choices import SandboxChoice
from rlm_adapters.graph.context import RLMConfig
from rlm_adapters.graph.leases import MultitaskStrategy, check_strategy
from rlm_adapters.graph.tools import RESERVED, Tool, listed_tools
from rlm_adapters.models.limits import Limits, limits_remedy
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.prompts.artefact import describe_signature
from rlm_adapters.prompts.dspy_private import RESULT_NAMES, SANDBOX_NAMES, call_budget
from rlm_adapters.prompts.fields import FieldsSpec
from rlm_adapters.prompts.rules import our_rules, without_foreign_rules
from rlm_adapters.sandbox import MontySandbox
from rlm_adapters.sandbox.host.runahead import Parallel, check_parallel
from rlm_adapters.traces.writer import TraceWriter, trace_writer
from rlm_adapters.values.content import ContentStore
from rlm_adapters.views.console import ConsoleView

_ANY_CALLS: Final = 1_000_000  # for the prompt and dspy.RLM's budget, if calls are not limited
_WHOLE_OUTPUT: Final = 200_000  # the prediction's trajectory has whole outputs; in the prompt they are cut


def _remedy(name: str, value: Any) -> str:
    """A remedy for an unknown argument: first the names of dspy.RLM, then those of `Limits`."""
    ours = {"max_iterations": "max_iters", "max_calls": "max_llm_calls"}
    return f"give {ours[name]}={value!r}" if name in ours else limits_remedy(name, value)


class RLM(dspy.RLM):  # type: ignore[misc]  # dspy is not typed
    """Recursive Language Model (arXiv 2512.24601) as a DSPy module.

    It replaces ``dspy.RLM``, also for optimizers and saved programs. The predictors have the same names
    (``generate_action``, ``extract``) and fields, so each class can load files that the other one saved. A prediction
    has one more field, ``rlm``, with the finish reason and the usage.

    Args:
        signature: inputs and outputs, ``"context, query -> answer"`` or a ``dspy.Signature``.
        max_iters: steps of the root LM. After them the extract predictor gives the answer.
        max_llm_calls: sub-calls of the whole call tree.
        max_output_chars: characters of each output that the prompt shows.
        verbose: show every step on standard error during the run.
        tools: functions or ``dspy.Tool`` objects that cells can call, sync or async.
        sub_lm: answers ``llm_query``; default ``dspy.settings.lm``. A name such as ``"openai/gpt-5"`` or a LangChain
            chat model becomes a ``dspy.LM``. It can also be a DSPy program with one input and one output field, such
            as another RLM.
        interpreter_factory: makes a dspy ``CodeInterpreter`` for each call. Default: that of ``dspy.settings``, else
            the sandbox of this package. Only this sandbox has recursion, parallel sub-calls and checkpoints.
        limits: further limits of a run (tokens, cost, seconds, concurrency, repairs): `Limits`, or a dict of its
            fields. It can also have ``max_iterations``, ``max_calls`` and ``max_depth``.
        prices: dollars per million tokens (input, output) by model name, for ``limits.max_cost``.
        max_depth: 1: sub-calls only; 2: ``rlm_query`` starts child RLMs, whose predictors are ``child.*``.
        parallel: ``"ahead"`` makes the sub-calls of a plain loop together, if they do not depend on each other;
            ``"off"`` makes them one after the other; ``"stream"`` is the same as ``"ahead"`` here, because the reply
            of a predictor is not streamed.
        checkpointer: a LangGraph checkpointer. A call with ``thread_id=`` continues from the last save if its process
            died.
        store: where big values are stored. A durable checkpointer needs a durable store.
        sandbox: a `Sandbox`, another `Executor`, or ``"monty"`` for pydantic-monty (extra ``monty``). Default: one
            sandbox that all modules of the process share.
        multitask_strategy: what a call does if another call, in any process, is running its ``thread_id``:
            ``"reject"`` raises `ThreadBusyError`, ``"enqueue"`` waits; None does not check.
        approve: what needs approval before it runs: ``"cells"``, ``"tools"``, ``"all"``, or a function that gets an
            `ApprovalRequest` (see docs/approval.md). To ask a person, it needs a checkpointer.
        on_event: called with every `Event` of every run.
        trace: a file for every event of every run, with prompts and answers, or a `TraceWriter`.
        trajectory: add ``prediction.rlm["trajectory"]``, for `Trajectory.from_dict`. It has more than
            ``prediction.trajectory``: calls with prompts and answers, times, tokens, child runs.
        trajectory_demos: keep only the last action step of a run in ``dspy.settings.trace``. Its ``repl_history`` has
            all earlier steps, so demos are whole trajectories. False keeps every step.
        sub_call: call the sub-LM through a predictor named ``sub_call``, which optimizers can tune: True, or a
            signature with one input and one output such as ``"prompt -> answer"``. False: the LM gets the prompt as
            the cell wrote it, as in ``dspy.RLM``.
        sub_agents: let cells ``import dspy`` and use sub-agents with their own signatures (``dspy.Predict``,
            ``ReAct``, ``RLM``, ...), which the host runs. In ``dspy.RLM`` this is always on; docs/dspy.md says why it
            is off here.

    Raises:
        InputError: a limit or name is wrong.
        ValueError: names of fields or tools are in conflict, as in ``dspy.RLM``.
    """

    _initial_interpreter_rules: str
    _RESERVED_RESULT_NAMES = RESULT_NAMES | {RESULT_FIELD}
    _RESERVED_SANDBOX_NAMES = SANDBOX_NAMES | (RESERVED - {"answer"})

    @checked("RLM", _remedy)
    def __init__(  # noqa: PLR0917 - as in dspy.RLM
        self,
        signature: Any,
        max_iters: int = DEFAULTS.max_iterations,
        max_llm_calls: int = MAX_LLM_CALLS,
        max_output_chars: int = DEFAULTS.max_output_chars,
        verbose: bool = False,
        tools: list[Callable[..., Any]] | Callable[..., Any] | None = None,
        sub_lm: Any = None,
        interpreter_factory: Callable[[], CodeInterpreter] | None = None,
        *,
        limits: Limits | Mapping[str, Any] | None = None,
        prices: Mapping[str, Any] | None = None,
        max_depth: int = DEFAULTS.max_depth,
        parallel: Parallel = "ahead",
        checkpointer: Checkpointer = None,
        store: ContentStore | None = None,
        sandbox: SandboxChoice | None = None,
        multitask_strategy: MultitaskStrategy | None = "reject",
        approve: Approve | None = None,
        on_event: EventHandler | None = None,
        trace: str | os.PathLike[str] | TraceWriter | None = None,
        trajectory: bool = False,
        trajectory_demos: bool = True,
        sub_call: Any = False,
        sub_agents: bool = False,
    ) -> None:
        if sub_agents and (sandbox == "monty" or isinstance(sandbox, MontySandbox)):
            raise InputError("sub_agents=True needs classes in cells, which monty does not have: use only one of them")
        if not isinstance(signature, str) and not hasattr(signature, "output_fields"):
            raise InputError(f"signature={signature!r}: give 'context, query -> answer', or a dspy.Signature")
        merged = merged_limits(
            limits,
            max_iters=max_iters,
            max_llm_calls=max_llm_calls,
            max_output_chars=max_output_chars,
            max_depth=max_depth,
        )
        self.max_depth = max_depth = merged.max_depth
        self.sub_agents = sub_agents
        super().__init__(
            signature,
            max_iters=merged.max_iterations,
            max_llm_calls=_ANY_CALLS if merged.max_calls is None else merged.max_calls,
            max_output_chars=merged.max_output_chars,
            verbose=verbose,
            tools=_dspy_tools(tools),
            sub_lm=dspy_lm(sub_lm, "sub_lm"),
            interpreter_factory=interpreter_factory or _settings_factory() or RestrictedPythonInterpreter,
        )
        self._interpreter_factory = interpreter_factory
        self.trajectory_demos = trajectory_demos
        self._limits = replace(merged, max_output_chars=_WHOLE_OUTPUT)
        self._parallel = check_parallel(parallel)
        self._multitask_strategy = check_strategy(multitask_strategy)
        self._approve = checked_approve(approve)
        self._prices = PriceTable(prices)
        self._runtime = Runtime(
            sandbox,
            store,
            checkpointer,
            on_event,
            listeners=() if trace is None else (trace_writer(trace),),
            trajectory=trajectory,
        )
        self.sub_call = dspy.Predict(sub_call_signature(sub_call)) if sub_call else None
        if max_depth > 1:
            self.child = RLM(
                "context, query -> answer",
                self.max_iters,
                self.max_llm_calls,
                max_depth=max_depth - 1,
                sub_agents=sub_agents,
            )

    # -- calling

    def forward(
        self,
        interpreter: CodeInterpreter | None = None,
        /,
        *more: Any,
        interpreter_factory: Callable[[], CodeInterpreter] | None = None,
        **input_args: Any,
    ) -> dspy.Prediction:
        """Answer from the given inputs.

        Args:
            interpreter: an interpreter of the caller for this call (as before dspy 3.4). The caller shuts it down.
            *more: must be empty: inputs are given by name.
            interpreter_factory: makes the interpreter of this call, which is shut down at its end.
            **input_args: the signature's inputs. With a checkpointer also ``thread_id``, the name of the run, and
                ``resume``, the answer to the interrupt at which it waits.

        Returns:
            The output fields, ``trajectory``, ``final_reasoning`` and ``rlm``. If a limit ended the run without an
            answer, the fields are None and ``rlm`` says why.

        Raises:
            ValueError: inputs are missing or unknown.
            CodeInterpreterError: the interpreter itself failed.
        """
        with self._call(self._only(interpreter, more), interpreter_factory, input_args) as call:
            return call.run()

    async def aforward(
        self,
        interpreter: CodeInterpreter | None = None,
        /,
        *more: Any,
        interpreter_factory: Callable[[], CodeInterpreter] | None = None,
        **input_args: Any,
    ) -> dspy.Prediction:
        """Async form of `forward`."""
        with self._call(self._only(interpreter, more), interpreter_factory, input_args) as call:
            return await call.arun()

    def _only(self, interpreter: Any, more: tuple[Any, ...]) -> Any:
        """The interpreter, if it is the only positional argument."""
        if more or not (interpreter is None or hasattr(interpreter, "execute")):
            named = ", ".join(f"{name}=..." for name in self._inputs())
            raise InputError(f"give inputs by name: rlm({named}); only an interpreter can be given without a name")
        return interpreter

    def _call(self, interpreter: Any, given_factory: Any, input_args: dict[str, Any]) -> Call:
        """Everything that this call passes to the graph."""
        options = {key: input_args.pop(key, None) for key in ("thread_id", "resume") if key not in self._inputs()}
        if "interpreter" in input_args and "interpreter" not in self._inputs():
            raise TypeError(
                "To use a caller-owned interpreter, pass it as the first positional argument when calling the module."
            )
        if isinstance(settings.lm, str | BaseChatModel):
            raise InputError(
                f"dspy.settings.lm={settings.lm!r:.80}: give dspy.LM('openai/gpt-5'), or lm_from_chat_model(model)"
            )
        self._validate_inputs(input_args)
        if options.get("thread_id") is not None and self._runtime.checkpointer is None:
            raise ValueError(f"thread_id={options['thread_id']!r} needs a checkpointer: RLM(..., checkpointer=saver)")
        factory = given_factory or self._interpreter_factory or _settings_factory() or RestrictedPythonInterpreter
        ours = interpreter is None and factory is RestrictedPythonInterpreter
        input_args, notes = plain_inputs(input_args, ours=ours)
        variables = [with_note(one, notes.get(one.name, "")) for one in self._build_variables(**input_args)]
        writer = self._writer([variable.format() for variable in variables])
        output = FieldsSpec.of_signature(self.signature, tuple(self.signature.output_fields))
        call = Call(
            graph=None,  # type: ignore[arg-type]  # set below, once there is a configuration to compile with
            config=None,  # type: ignore[arg-type]
            writer=writer,
            output=output,
            inputs={},
            described=[described(variable) for variable in variables],
            query=_title(self.signature),
            whole_trajectories=self.trajectory_demos,
            events=[] if self._runtime.trajectory else None,
            **options,
        )
        try:
            self._set_up(call, interpreter, factory, input_args, ours=ours)
        except BaseException:
            call.cleanup.close()
            raise
        return call

    def _set_up(self, call: Call, interpreter: Any, factory: Any, input_args: Mapping[str, Any], *, ours: bool) -> None:
        """Choose the executor, and give it the inputs."""
        sandbox: Any
        sub_agents: dict[str, Tool] = {}
        if ours:
            special = {name: value for name, value in input_args.items() if isinstance(value, SandboxSerializable)}
            prelude = Prelude.of(special)
            sandbox = self._runtime.sandbox if prelude is None else PreparedSandbox(self._runtime.sandbox, prelude)
            plain = {name: to_repl(name, value) for name, value in input_args.items() if name not in special}
            call.inputs = plain
            rules = self._native_rules()
            if self.sub_agents:
                sub_agents = SubAgents(self._user_tools, factory, self.sub_lm).tools()
        else:
            sandbox, rules = self._foreign(call, interpreter, factory, input_args)
        call.writer.target.signature = lambda: self._signature_for(rules)
        call.config = RLMConfig(
            writer=call.writer,
            sub=SubLM(self.sub_lm, self.sub_call),
            tools=repl_tools(self._user_tools) | sub_agents,
            limits=self._limits,
            prices=self._prices,
            output=call.output,
            store=self._runtime.store,
            sandbox=sandbox,
            parallel="off" if isinstance(sandbox, InterpreterSandbox) else self._parallel,
            sessions=self._runtime.sessions,
            remember=False,  # each call has all inputs of the signature
            multitask_strategy=self._multitask_strategy,
            approve=self._approve,
            on_event=self._listener(call),
            listeners=(*self._runtime.listeners, *call.listeners),
        )
        call.graph = self._runtime.graph

    def _foreign(
        self, call: Call, interpreter: Any, factory: Callable[[], CodeInterpreter], input_args: Mapping[str, Any]
    ) -> tuple[InterpreterSandbox, str]:
        """A dspy interpreter as the executor, set up as in dspy.RLM, and its rules for the prompt."""
        budget = call_budget(self.max_llm_calls)
        tools = self._prepare_execution_tools(budget)
        if interpreter is not None:
            _validate_interpreter(interpreter)
            self._inject_execution_context(interpreter, tools)
            rules = self._format_interpreter_rules(self._get_execution_instructions(type(interpreter)), "")
        else:
            interpreter = call.cleanup.enter_context(self._interpreter_context(tools, factory))
            sub_agents = self._setup_facade(interpreter, budget, factory)
            rules = self._format_interpreter_rules(self._get_execution_instructions(factory), sub_agents)
        return InterpreterSandbox(interpreter, self._prepare_serializable_vars(dict(input_args), interpreter)), rules

    def _writer(self, variables: list[str] | None) -> PredictorWriter:
        """The predictors of this module (or of this deep copy) as the root LM."""
        child = self.child._child_writer() if self.max_depth > 1 else None  # noqa: SLF001 - of the same class
        return PredictorWriter(
            ActionTarget(self.generate_action, ("reasoning", "code")),
            PredictorTarget(self.extract, tuple(self.signature.output_fields)),
            self.max_output_chars,
            variables,
            child=child,
            sub_agents=self.sub_agents,
        )

    def _child_writer(self) -> PredictorWriter:
        """The writer of child runs. Their inputs are known when they start."""
        return replace(self._writer(None), variable_names={"query": "query"}, bare_answer=True)

    def _listener(self, call: Call) -> EventHandler | None:
        on_event = self._runtime.on_event
        if not self.verbose:
            return on_event
        view = call.cleanup.enter_context(ConsoleView())

        def listen(event: Event) -> None:
            view.handle(event)
            if on_event is not None:
                on_event(event)

        return listen

    def _inputs(self) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", self.signature.input_fields)

    def parts_of_this_process(self) -> tuple[str, ...]:
        """Names of the arguments that cannot go to another process."""
        return (*self._runtime.parts_of_this_process(), *(("approve",) if self._approve is not None else ()))

    # -- prompt

    def _build_signatures(self) -> tuple[Any, Any]:
        """The signatures of dspy.RLM, with the rules of this package's sandbox if it is the executor."""
        action, extract = super()._build_signatures()
        if resolve_interpreter_factory(self._interpreter_factory) is RestrictedPythonInterpreter:
            rules = self._native_rules()
            action = action.with_instructions(action.instructions.replace(self._initial_interpreter_rules, rules, 1))
            self._initial_interpreter_rules = rules
        return action, extract

    def _native_rules(self) -> str:
        return our_rules(recursion=self.max_depth > 1, sub_agents=self.sub_agents)

    def _signature_for(self, rules: str) -> Any:
        """The action predictor's signature for an executor with these rules; None: the unchanged signature."""
        signature = getattr(self.generate_action, "signature", None)
        initial = self._initial_interpreter_rules
        if signature is None or rules == initial:
            return None
        text = signature.instructions
        if initial and initial in text:
            return signature.with_instructions(text.replace(initial, rules, 1))
        return signature.with_instructions(text + rules) if rules else None

    # -- saving

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """The predictors' states as in dspy.RLM, and the fields of the task, for readers that have only the file."""
        state = dict(super().dump_state(json_mode=json_mode))
        wording = self.sub_call and self.sub_call.signature
        state["rlm"] = describe_signature(self.signature, max_output_chars=self.max_output_chars, sub_call=wording)
        return state

    def load_state(self, state: Mapping[str, Any], **options: Any) -> None:
        """Load a state of this class or of dspy.RLM, which has fewer predictors."""
        extra = ("child.", "sub_call")
        own = {name: one.dump_state() for name, one in self.named_parameters() if name.startswith(extra)}
        super().load_state({**own, **state}, **options)
        signature = self.generate_action.signature
        instructions = without_foreign_rules(signature.instructions, self._initial_interpreter_rules)
        if instructions != signature.instructions:
            self.generate_action.signature = signature.with_instructions(instructions)


def _dspy_tools(tools: Any) -> list[Any]:
    """Tools in the form of dspy.RLM; LangChain tools become DSPy tools."""
    given = [dspy.Tool.from_langchain(tool) if isinstance(tool, BaseTool) else tool for tool in listed_tools(tools)]
    wrong = next((tool for tool in given if not callable(tool)), None)
    if wrong is not None or None in given:
        raise InputError(f"tool {wrong!r}: give a function or a dspy.Tool")
    return given


def _settings_factory() -> Callable[[], CodeInterpreter] | None:
    """The interpreter factory in ``dspy.settings``, if there is one."""
    factory = settings.get("interpreter_factory")
    if factory is not None:
        _validate_interpreter_factory(factory, name="dspy.settings.interpreter_factory")
    return cast("Callable[[], CodeInterpreter] | None", factory)


def _title(signature: Any) -> str:
    """The title of a run in events and traces."""
    return str(signature.instructions or signature.signature).strip() or "RLM"
