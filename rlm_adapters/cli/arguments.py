"""Options that several commands have, each told once."""

from __future__ import annotations

from typing import Annotated

import typer

from rlm_adapters.cli.approval import Approving

ModelName = Annotated[
    str, typer.Option("--model", "-m", envvar="RLM_MODEL", help="Root LM, as provider:name.", show_default=False)
]
SubModelName = Annotated[
    str | None, typer.Option(envvar="RLM_SUB_MODEL", help="LM for sub-calls; default: the root LM.", show_default=False)
]
BaseURL = Annotated[
    str | None, typer.Option(help="Address of an OpenAI-compatible or other server.", show_default=False)
]
APIKey = Annotated[
    str | None,
    typer.Option(help="Safer: the provider's environment variable, such as OPENAI_API_KEY.", show_default=False),
]
MaxIterations = Annotated[int, typer.Option(help="Turns of the root LM.")]
MaxDepth = Annotated[int, typer.Option(help="0: no sub-calls, 1: sub-LM calls, 2: child RLMs.")]
MaxCalls = Annotated[int | None, typer.Option(help="Sub-calls of the whole run.")]
MaxTokens = Annotated[int | None, typer.Option(help="Tokens of the whole run.")]
MaxCost = Annotated[float | None, typer.Option(help="US dollars for the whole run.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds for the whole run.")]
Concurrency = Annotated[int, typer.Option(help="Model calls in flight at once.")]
Approve = Annotated[
    Approving | None,
    typer.Option(help="Ask on the terminal before each cell or tool call runs.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show the trajectory.")]
