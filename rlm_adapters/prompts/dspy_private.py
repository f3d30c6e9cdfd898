"""All names of DSPy that this package uses but that are not public.

Each entry of `PRIVATE` says what breaks without the name. `tests/test_private_names.py` checks that they exist. Checked
with dspy 3.4.1. Needs the extra ``dspy``; imported only where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

import dspy
from dspy.predict.rlm import SUB_AGENT_INSTRUCTIONS, _LLMCallBudget, _strip_code_fences
from dspy.primitives.code_interpreter import FinalOutput
from dspy.primitives.facade import (
    CALL_TOOL,
    CONSTRUCT_TOOL,
    HOST_TOKEN_VAR,
    SIGNATURE_MARKER,
    FacadeInvocation,
)

from rlm_adapters.models.private_names import PrivateName

__all__ = [
    "CALL_TOOL",
    "CONSTRUCT_TOOL",
    "HOST_TOKEN_VAR",
    "PRIVATE",
    "RESULT_NAMES",
    "SANDBOX_NAMES",
    "SIGNATURE_MARKER",
    "SUB_AGENT_INSTRUCTIONS",
    "FacadeInvocation",
    "call_budget",
    "checked_fields",
    "interpreter_rules",
    "without_fences",
]

_MODULE: Final = "dspy.predict.rlm"
_RLM: Final = "dspy.predict.rlm:RLM"
_FOREIGN: Final = "RLM does not run on interpreters of DSPy's own"
_FACADE: Final = "`import dspy` in cells does not work"

PRIVATE: Final = (
    PrivateName(_MODULE, "_strip_code_fences", "code of a predictor's reply keeps its markdown fences"),
    PrivateName(_MODULE, "_LLMCallBudget", _FOREIGN),
    PrivateName(_MODULE, "SUB_AGENT_INSTRUCTIONS", "prompts that dspy.RLM saved tell of sub-agents that are not there"),
    PrivateName(_RLM, "_process_final_output", "answers are not checked by the signature"),
    PrivateName(_RLM, "_format_interpreter_rules", "prompts that dspy.RLM saved tell of the wrong sandbox"),
    PrivateName(_RLM, "_RESERVED_RESULT_NAMES", "a field may be named like one that the result has"),
    PrivateName(_RLM, "_RESERVED_SANDBOX_NAMES", "a tool may be named like a function of the cells"),
    PrivateName(_RLM, "_build_signatures", "RLM has no prompts"),
    PrivateName(_RLM, "_build_variables", "RLM cannot describe its inputs"),
    PrivateName(_RLM, "_validate_inputs", "missing and unknown inputs of RLM are not refused"),
    PrivateName(_RLM, "_get_execution_instructions", _FOREIGN),
    PrivateName(_RLM, "_inject_execution_context", _FOREIGN),
    PrivateName(_RLM, "_interpreter_context", _FOREIGN),
    PrivateName(_RLM, "_prepare_execution_tools", _FOREIGN),
    PrivateName(_RLM, "_prepare_serializable_vars", _FOREIGN),
    PrivateName(_RLM, "_setup_facade", _FOREIGN),
    PrivateName("dspy.primitives.facade", "CALL_TOOL", _FACADE),
    PrivateName("dspy.primitives.facade", "CONSTRUCT_TOOL", _FACADE),
    PrivateName("dspy.primitives.facade", "FacadeInvocation", _FACADE),
    PrivateName("dspy.primitives.facade", "HOST_TOKEN_VAR", _FACADE),
    PrivateName("dspy.primitives.facade", "SIGNATURE_MARKER", _FACADE),
)


def interpreter_rules(text: str, *, sub_agents: bool = False) -> str:
    """The rules about the interpreter in an action step's instructions.

    Args:
        text: instructions of the interpreter.
        sub_agents: whether cells can ``import dspy``.
    """
    return str(dspy.RLM._format_interpreter_rules(text, SUB_AGENT_INSTRUCTIONS if sub_agents else ""))  # noqa: SLF001 - see PRIVATE


def without_fences(code: str) -> str:
    """A predictor's code without markdown fences.

    Raises:
        SyntaxError: the fence is of another language.
    """
    return str(_strip_code_fences(code))


def checked_fields(fields: Any, names: Sequence[str], signature: Any) -> tuple[dict[str, Any] | None, str | None]:
    """Submitted fields in the types of a signature, with the rules and messages of dspy.RLM.

    Returns:
        The fields and None, or None and the problem.
    """
    check = dspy.RLM._process_final_output  # noqa: SLF001 - see PRIVATE
    values, error = check(SimpleNamespace(signature=signature), FinalOutput(fields), list(names))
    return (None, str(error)) if error is not None else (dict(values), None)


def call_budget(most: int) -> Any:
    """The counter of sub-calls that dspy.RLM's tools share.

    Args:
        most: largest number of sub-calls.
    """
    return _LLMCallBudget(most)


RESULT_NAMES: Final[frozenset[str]] = frozenset(dspy.RLM._RESERVED_RESULT_NAMES)  # noqa: SLF001 - see PRIVATE
"""Fields of dspy.RLM's result that are not in the signature."""

SANDBOX_NAMES: Final[frozenset[str]] = frozenset(dspy.RLM._RESERVED_SANDBOX_NAMES)  # noqa: SLF001 - see PRIVATE
"""Functions that cells of dspy.RLM have."""
