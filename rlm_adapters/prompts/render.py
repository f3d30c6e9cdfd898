"""Make the messages for the root LM from a trajectory.

The messages are append-only: each turn adds new messages at the end, so a provider's prompt cache has all earlier ones.
The question is in the first message and again, shortened, at the end of each observation.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from rlm_adapters.prompts.describe import cut_middle, input_line
from rlm_adapters.prompts.system import system_prompt
from rlm_adapters.prompts.trajectory import CellResult, Outcome, Trajectory, Turn

_REMINDER_CHARS = 1_000  # a question up to this length is repeated whole after each output
_REMINDER_START = 400  # characters of a longer question that are repeated
_FINISHED = ("submitted", "text", "direct")
_NAMES = 60  # names of earlier blocks that the first message lists
_FOLDED_CODE, _FOLDED_OUTPUT = 600, 300  # characters of a folded turn that are kept


def root_messages(trajectory: Trajectory, *, worked_example: bool = False, hints: str = "") -> list[BaseMessage]:
    """The messages for the next cell."""
    messages: list[BaseMessage] = [
        SystemMessage(system_prompt(trajectory, worked_example=worked_example, hints=hints)),
        HumanMessage(_opening(trajectory)),
    ]
    if trajectory.folded:
        messages.append(HumanMessage(_folded(trajectory.turns[: trajectory.folded])))
    for turn in trajectory.turns[trajectory.folded :]:
        messages += [AIMessage(turn.reply or "(empty reply)"), HumanMessage(turn.observation)]
    return messages


def extract_messages(trajectory: Trajectory, reason: str, candidate: str | None = None) -> list[BaseMessage]:
    """The messages that ask for the best answer when a limit ends a run."""
    wanted = f"\nThe answer must fit: {trajectory.output}. Give it as JSON." if trajectory.output else ""
    noted = f"\nAn answer that was noted on the way: {candidate}" if candidate else ""
    last = (
        f"The run ends here ({reason}); no more code will be run. From what the outputs above show, give the best "
        f"answer that they support, as plain text without code. Say what is uncertain.{wanted}{noted}\n\n"
        f"Question: {trajectory.query}"
    )
    return [*root_messages(trajectory), HumanMessage(last)]


def as_blocks(cells: Sequence[str]) -> str:
    """Cells in the form of a reply of the root LM."""
    return "\n\n".join(f"```repl\n{cell.strip()}\n```" for cell in cells)


def observation(outcome: Outcome, trajectory: Trajectory) -> str:
    """The observation of a turn: outputs, each with its size, the note, and the status line."""
    parts = [_result(result, number, len(outcome.cells)) for number, result in enumerate(outcome.cells, 1)]
    if outcome.note:
        parts.append(outcome.note)
    return "\n\n".join([*(parts or ["Nothing was run."]), status_line(trajectory)])


def status_line(trajectory: Trajectory) -> str:
    """The end of an observation: the progress of the run, and the question again."""
    parts = [f"Next: block {trajectory.iteration} of at most {trajectory.max_iterations}."]
    if trajectory.iteration >= trajectory.max_iterations:
        parts[0] = "Next: your last block. It must SUBMIT the best answer that you have."
    elif trajectory.iteration == trajectory.max_iterations - 1:
        parts.append("Only two blocks are left.")
    if trajectory.balance:
        parts.append(f"Left: {trajectory.balance}.")
    return " ".join(parts) + f"\n{_reminder(trajectory.query)}"


def _reminder(query: str) -> str:
    if len(query) <= _REMINDER_CHARS:
        return f"Question: {query}"
    start = query[:_REMINDER_START].rsplit(maxsplit=1)[0].rstrip()
    return f"Question (its start; the whole of it stands in the first message): {start} ..."


def _result(result: CellResult, number: int, cells: int) -> str:
    which = f" of block {number}" if cells > 1 else ""
    parts = []
    if result.stdout:
        parts.append(f"Output{which} ({result.chars:,} characters):\n{result.stdout.rstrip()}")
    elif result.error is None:
        parts.append(f"Output{which}: nothing was printed.")
    if result.error:
        parts.append(f"Error{which}:\n{result.error.rstrip()}")
    return "\n\n".join(parts)


def _opening(trajectory: Trajectory) -> str:
    lines = [f"Question: {trajectory.query}", ""]
    if trajectory.inputs:
        lines += ["Inputs (variables in the REPL):", *(input_line(info) for info in trajectory.inputs)]
    else:
        lines.append("There are no inputs beside the question.")
    if trajectory.files:
        names = ", ".join(f"{name!r} ({size:,} bytes)" for name, size in trajectory.files.items())
        lines.append(f"Files in the working directory (an input made from a file is its text): {names}")
    lines += _earlier(trajectory)
    if trajectory.output:
        lines += ["", f"Finish with {trajectory.output}"]
    limits = f"At most {trajectory.max_iterations} blocks"
    lines += ["", f"{limits}; budget: {trajectory.budget}." if trajectory.budget else f"{limits}."]
    return "\n".join(lines)


def _earlier(trajectory: Trajectory) -> list[str]:
    """The earlier questions and answers of this session, and the names that still exist."""
    if not trajectory.earlier:
        return []
    lines = ["", "Earlier questions of this session:"]
    if trajectory.forgotten:
        lines.append(f"({trajectory.forgotten} before these)")
    for one in trajectory.earlier:
        ended = "" if one.finish_reason in _FINISHED else f" ({one.finish_reason})"
        lines.append(f"- Question: {one.query}\n  Answer{ended}: {one.answer}")
    if trajectory.names:
        shown = ", ".join(trajectory.names[-_NAMES:])
        more = len(trajectory.names) - _NAMES
        lines.append(f"Variables and functions of their blocks still exist: {shown}{f', and {more} more' * (more > 0)}")
    return lines


def _folded(turns: tuple[Turn, ...]) -> str:
    parts = [f"Summary of your first {len(turns)} blocks (their variables still exist; only the texts were shortened):"]
    for number, turn in enumerate(turns, 1):
        code = cut_middle(turn.reply.strip(), _FOLDED_CODE)
        output = cut_middle(turn.observation.rsplit("\nNext: ", 1)[0].strip(), _FOLDED_OUTPUT)
        parts.append(f"[{number}] {code}\n-> {output}")
    return "\n\n".join(parts)
