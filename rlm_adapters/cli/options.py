"""Options of several commands, and parsers for values that are not a number or a name."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from rlm_adapters.cli.approval import Approving
from rlm_adapters.errors import InputError
from rlm_adapters.models.limits import LIMIT_HELP
from rlm_adapters.values.type_names import type_named

ModelOption: TypeAlias = Annotated[
    str, typer.Option("--model", "-m", envvar="RLM_MODEL", help="Root LM, as provider:name.", show_default=False)
]
SubModelOption: TypeAlias = Annotated[
    str | None,
    typer.Option(envvar="RLM_SUB_MODEL", help="LM for sub-calls; default: the root LM.", show_default=False),
]
BaseUrlOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Address of an OpenAI-compatible or other server.", show_default=False)
]
ApiKeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Safer: set the provider's environment variable, such as OPENAI_API_KEY.", show_default=False),
]
PriceOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="MODEL=IN,OUT", help="Dollars per million tokens, for --max-cost.", show_default=False),
]
OutputTypeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE", help="int, float, bool, str, list[...] or dict[...], or a JSON schema (text or file)."
    ),
]
PromptOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prompt file that an optimised DSPy RLM saved.", show_default=False),
]
ApproveOption: TypeAlias = Annotated[
    Approving | None,
    typer.Option(help="Ask on the terminal before each cell or tool call runs.", show_default=False),
]


class Parallel(StrEnum):
    """How sub-calls of a cell are made (`create_rlm_graph(parallel=)`)."""

    AHEAD = "ahead"
    STREAM = "stream"
    OFF = "off"


ParallelOption: TypeAlias = Annotated[
    Parallel,
    typer.Option(
        help="ahead: sub-calls of a loop are sent together; stream: also while the root LM still writes its cell; "
        "off: one after the other.",
    ),
]
QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show the trajectory.")]

VerboseOption: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show models, limits, and a line for each reply and sub-call.")
]


def limit_option(field: str) -> Any:
    """An option for a field of `Limits`, with the same description as everywhere else."""
    return typer.Option(help=LIMIT_HELP[field])


def parse_output_type(text: str) -> Any:
    """Read ``--output-type``: a type such as ``list[str]``, or a JSON schema as text or as the name of a .json file.

    Raises:
        InputError: it is not one of these.
    """
    text = text.strip()
    if text.startswith("{") or text.endswith(".json"):
        try:
            return json.loads(text if text.startswith("{") else Path(text).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"--output-type {text}: {error.strerror}; give a file with a JSON schema") from error
        except ValueError as error:
            raise InputError(f"--output-type {text[:80]}: not JSON ({error})") from error
    try:
        return type_named(text)
    except ValueError:
        raise InputError(
            f"--output-type {text!r} is not known: give int, float, bool, str, list[...], dict[str, ...], "
            "or a JSON schema as text or .json file"
        ) from None


def parse_price(text: str) -> tuple[str, tuple[float, float]]:
    """Read ``--price MODEL=IN,OUT``: a model and its prices in dollars per million tokens.

    Raises:
        InputError: it is not of this form.
    """
    name, _, prices = text.rpartition("=")
    try:
        given, made = (float(price) for price in prices.split(","))
    except ValueError:
        given = made = -1.0
    if not name or not (given >= 0 and made >= 0):
        raise InputError(f"--price {text!r}: give MODEL=IN,OUT in dollars per million tokens, such as gpt-5=1.25,10")
    return name, (given, made)
