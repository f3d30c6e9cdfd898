"""Read a reply of the root LM: cells to run, a finish, or a message that asks for a better reply.

Models write the same cell in a dozen forms (fences, tool calls as text, JSON, DSPy fields, thoughts that quote
rejected code). :func:`read_reply` is a pure function from the raw reply to a :class:`Reading`. docs/replies.md shows
the forms, with an example of each, in the order in which they are tried.
"""

from rlm_adapters.replies.finish_beside_code import accept_provisional
from rlm_adapters.replies.read import plain_answer, read_reply
from rlm_adapters.replies.reading import UNSET, Problem, Reading, TextFinish

__all__ = ["UNSET", "Problem", "Reading", "TextFinish", "accept_provisional", "plain_answer", "read_reply"]
