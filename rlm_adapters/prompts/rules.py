"""Replace the rules of DSPy's interpreters in a prompt by the rules of this package's sandbox.

A program that ``dspy.RLM`` saved describes the interpreter with which it was made, and sub-agents. When it is loaded
here, in the DSPy module or in the LangChain model, it must describe this sandbox.
"""

from __future__ import annotations

from typing import Final

from dspy.primitives.local_interpreter import LocalInterpreter
from dspy.primitives.python_interpreter import PythonInterpreter

from rlm_adapters.prompts.dspy_private import SUB_AGENT_INSTRUCTIONS, interpreter_rules

EXECUTION_INSTRUCTIONS: Final = (
    "Code runs in a sandboxed Python process. Variables, functions and imports stay from one block to the next; "
    "the value of a last line that is an expression is shown. Most of the standard library can be imported; there "
    "is no network, no disk and no other package. Tools and SUBMIT are global functions. A plain loop over "
    "`llm_query` runs its calls concurrently. A failed tool or sub-call raises an exception."
)
"""Default instructions of this package's sandbox."""

RECURSION: Final = (
    " `rlm_query(prompt, context=None)` gives a sub-question over a piece that is too big for one prompt to a helper "
    "with a REPL like yours; `rlm_query_batched(prompts, contexts)` runs several."
)


def our_rules(*, recursion: bool = False, sub_agents: bool = False) -> str:
    """The rules of this package's sandbox, in the form of an action step's instructions."""
    text = EXECUTION_INSTRUCTIONS + (RECURSION if recursion else "")
    return interpreter_rules(text, sub_agents=sub_agents)


def without_foreign_rules(instructions: str, ours: str) -> str:
    """Instructions in which the rules of DSPy's interpreters are replaced.

    Args:
        instructions: of an action step, perhaps rewritten by an optimizer. Unknown text is not changed.
        ours: `our_rules` of the current sandbox.
    """
    text = instructions.replace(SUB_AGENT_INSTRUCTIONS, "", 1)
    for known in _known():
        if known in text:
            return text.replace(known, ours, 1)
    return text


def _known() -> list[str]:
    """Rules that a file may have, without those about sub-agents."""
    theirs = [kind.execution_instructions for kind in (PythonInterpreter, LocalInterpreter)]
    return [*map(interpreter_rules, theirs), our_rules(recursion=True), our_rules()]
