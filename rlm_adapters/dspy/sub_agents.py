"""``import dspy`` in a cell: the cell defines sub-agents, and the host runs them.

    import dspy
    dates = dspy.Predict("page -> dates: list[str]")(page=pages[3]).dates

DSPy has its own stand-in for the module (``dspy.primitives.facade``), but it needs things that cells cannot use here,
such as ``sys.modules`` and ``__setattr__``. This stand-in makes the same two calls to the same host side, which builds
the real predictors. It is added to a session when a cell first uses the name ``dspy``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from dspy.dsp.utils.settings import settings
from langgraph.runtime import get_runtime

from rlm_adapters.dspy.signatures import check_inputs, check_predictor
from rlm_adapters.dspy.streaming import where_it_can_stream
from rlm_adapters.dspy.usage import Measured, measured
from rlm_adapters.graph.context import RLMContext
from rlm_adapters.graph.tools import Tool
from rlm_adapters.models.budget import Ledger
from rlm_adapters.prompts.dspy_private import CALL_TOOL, CONSTRUCT_TOOL, FacadeInvocation

STAND_IN: Final = """
class _DspyPrediction(dict):
    def __init__(self, **fields):
        super().__init__(fields)
        for name, value in fields.items():
            setattr(self, name, value)
    def __repr__(self):
        return f"Prediction({dict(self)})"

_dspy_made = []

class _DspyAgent:
    def __init__(self, kind, signature, options):
        self._kind, self._signature, self._options, self._handle = kind, signature, options, None
    def _make(self):
        _dspy_made.append(self)
        self._handle = _dspy_construct(
            kind=self._kind, signature=self._signature, attr_name=f"_dspy_{len(_dspy_made)}", kwargs=self._options
        )
    def __call__(self, **inputs):
        if self._handle is None:
            self._make()
        try:
            fields = _dspy_call(handle=self._handle, inputs=inputs)
        except RuntimeError as error:
            if "Unknown predictor handle" not in str(error):
                raise
            self._make()
            fields = _dspy_call(handle=self._handle, inputs=inputs)
        return _DspyPrediction(**(fields or {}))

class _DspyModule:
    def __init__(self, *_args, **_options):
        pass
    def __call__(self, **inputs):
        return self.forward(**inputs)

def _dspy_sent(value):
    if isinstance(value, (list, tuple)):
        return [_dspy_sent(item) for item in value]
    if isinstance(value, dict):
        return {key: _dspy_sent(item) for key, item in value.items()}
    if callable(value):
        names = [name for name, known in globals().items() if known is value]
        return {"__dspy_tool__": names[0] if names else getattr(value, "__name__", repr(value))}
    return value

def _dspy_kind(kind):
    def make(signature=None, **options):
        return _DspyAgent(kind, signature, _dspy_sent(options))
    return make

def _dspy_signature(signature, instructions=None, **_options):
    return {"__dspy_sig__": True, "signature": signature, "instructions": instructions}

def _dspy_tool(func, **_options):
    return func

class dspy:
    Module = _DspyModule
    Prediction = _DspyPrediction
    Signature = _dspy_signature
    Tool = _dspy_tool
    Predict = _dspy_kind("Predict")
    ChainOfThought = _dspy_kind("ChainOfThought")
    RLM = _dspy_kind("RLM")
    CodeAct = _dspy_kind("CodeAct")
    ProgramOfThought = _dspy_kind("ProgramOfThought")
    ReAct = _dspy_kind("ReAct")
    ReActV2 = _dspy_kind("ReActV2")
""".strip()
"""Code of the stand-in, in the language of the cells. In a resumed run it defines the agents in the host again."""

_MENTION: Final = re.compile(r"\bdspy\b")


def names_dspy(code: str) -> bool:
    """Whether a cell may use the stand-in."""
    return _MENTION.search(code) is not None


def sandbox_name(tool: str) -> str:
    """The name of a tool in the sandbox: cells cannot use the names of the facade's two tools (``__dspy_call__``)."""
    return "_" + tool.strip("_") if tool in (CONSTRUCT_TOOL, CALL_TOOL) else tool


class SubAgents:
    """The host side for one run of `RLM`.

    LM calls of sub-agents count as sub-calls of the run, and their tokens as its tokens.

    Args:
        tools: tools of the module, which sub-agents can use.
        interpreter_factory: for sub-agents that execute code.
        lm: LM of the sub-agents; None: ``dspy.settings.lm`` at the time of a call.
    """

    def __init__(self, tools: Mapping[str, Any], interpreter_factory: Callable[[], Any], lm: Any) -> None:
        self._lm = lm
        self._host = FacadeInvocation(dict(tools), interpreter_factory, None, lm=lm, reserve=self._reserve)

    def tools(self) -> dict[str, Tool]:
        """The two functions that the stand-in calls."""
        functions: dict[str, Callable[..., Any]] = {CONSTRUCT_TOOL: self._construct, CALL_TOOL: self._call}
        named = {sandbox_name(name): function for name, function in functions.items()}
        return {name: Tool(name, "", None, function, internal=True) for name, function in named.items()}

    def _construct(self, kind: str, signature: Any, attr_name: str, kwargs: dict[str, Any] | None = None) -> str:
        check_predictor(signature, kwargs)
        unique = f"{attr_name}_{uuid.uuid4().hex}"  # the REPL of each child run counts its own agents
        return str(self._host.construct(kind, signature, unique, kwargs))

    def _call(self, handle: str, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
        check_inputs(inputs)
        usage = Measured()
        try:
            with measured() as usage:
                return dict(where_it_can_stream(lambda: self._host.call(handle, inputs)))
        finally:
            self._book(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)

    def _reserve(self, calls: int) -> None:
        """Subtract LM calls from the run's limit, as dspy.RLM does."""
        ledger = _ledger()
        left = ledger.balance().calls
        if ledger.exhausted() is not None or (left is not None and left < calls):
            raise RuntimeError("the limits of this run allow no further LM call: finish with what you have")
        self._book(calls=calls)

    def _book(self, **spent: int) -> None:
        lm = self._lm if self._lm is not None else settings.lm
        model = str(getattr(lm, "model", None) or type(lm).__name__)
        tokens = spent.get("input_tokens", 0), spent.get("output_tokens", 0)
        cost = _context().config.prices.cost(model, *tokens) if any(tokens) else 0.0
        _ledger().book({**spent, "cost": cost, "by_model": {model: {**spent, "cost": cost}}})


def _context() -> Any:
    """The context of the current graph node."""
    return get_runtime(RLMContext).context


def _ledger() -> Ledger:
    ledger: Ledger = _context().run.ledger
    return ledger
