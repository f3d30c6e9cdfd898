"""Prompts for the root LM, and descriptions of values in them."""

from rlm_adapters.prompts.describe import cut_middle, describe_input, preview, type_name
from rlm_adapters.prompts.render import extract_messages, observation, root_messages, status_line
from rlm_adapters.prompts.system import system_prompt
from rlm_adapters.prompts.trajectory import (
    CellResult,
    EarlierQuestion,
    FunctionInfo,
    InputInfo,
    Outcome,
    Trajectory,
    Turn,
)
from rlm_adapters.prompts.writer import ChatCodeWriter, CodeWriter

__all__ = [
    "CellResult",
    "ChatCodeWriter",
    "CodeWriter",
    "EarlierQuestion",
    "FunctionInfo",
    "InputInfo",
    "Outcome",
    "Trajectory",
    "Turn",
    "cut_middle",
    "describe_input",
    "extract_messages",
    "observation",
    "preview",
    "root_messages",
    "status_line",
    "system_prompt",
    "type_name",
]
