"""Reading what a root LM wrote: cells to run, a finish, or what to ask it to write again.

Models wrap the same cell in a dozen ways (fences, tool calls written as text, JSON, DSPy fields, thoughts that
quote code they rejected). :func:`read_reply` is a pure function from the raw reply to a :class:`Reading`.
docs/replies.md shows the shapes, with an example of each, in the order in which they are looked for.
"""

from rlm_adapters.replies.finish_beside_code import accept_provisional
from rlm_adapters.replies.read import plain_answer, read_reply
from rlm_adapters.replies.reading import UNSET, Problem, Reading, TextFinish

__all__ = ["UNSET", "Problem", "Reading", "TextFinish", "accept_provisional", "plain_answer", "read_reply"]
