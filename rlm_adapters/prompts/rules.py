"""What the prompt of an RLM says of the REPL in which its cells run: ours, in the place of DSPy's interpreters.

A program that ``dspy.RLM`` saved tells of the interpreter that it was made with, and of sub-agents. Where it is loaded
here it must tell of this sandbox, in the DSPy module and in the LangChain model alike.
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
"""Of the sandbox of this package, for whoever gives no others."""

RECURSION: Final = (
    " `rlm_query(prompt, context=None)` gives a sub-question over a piece that is too big for one prompt to a helper "
    "with a REPL like yours; `rlm_query_batched(prompts, contexts)` runs several."
)


def our_rules(*, recursion: bool = False, sub_agents: bool = False) -> str:
    """The rules of our sandbox, as they stand in the instructions of an action step."""
    text = EXECUTION_INSTRUCTIONS + (RECURSION if recursion else "")
    return interpreter_rules(text, sub_agents=sub_agents)


def without_foreign_rules(instructions: str, ours: str) -> str:
    """Instructions in which the rules of DSPy's own interpreters give way to ours.

    Args:
        instructions: of an action step, perhaps rewritten by an optimizer; what is not known stays as it is.
        ours: `our_rules` of the sandbox that is used.
    """
    text = instructions.replace(SUB_AGENT_INSTRUCTIONS, "", 1)
    for known in _known():
        if known in text:
            return text.replace(known, ours, 1)
    return text


def _known() -> list[str]:
    """Rules that may stand in a file, without those of sub-agents."""
    theirs = [kind.execution_instructions for kind in (PythonInterpreter, LocalInterpreter)]
    return [*map(interpreter_rules, theirs), our_rules(recursion=True), our_rules()]
