"""The checks of ``rlm doctor``: what works on this machine, its packages and models, and how to fix the rest."""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from rlm_adapters import __version__
from rlm_adapters.cli.engine import Models
from rlm_adapters.errors import InputError, MissingExtraError, ModelCallError, RLMError
from rlm_adapters.models.budget import Ledger
from rlm_adapters.models.calling import ModelCaller
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable, prices_source
from rlm_adapters.models.providers import open_chat_model
from rlm_adapters.models.targets import ChatTarget, as_prompt

_EXTRAS: Final = {
    "openai": ("langchain_openai", "models of OpenAI and of OpenAI-compatible servers"),
    "dspy": ("dspy", "RLM, the DSPy module, and prompt files"),
    "pdf": ("pypdf", "PDF files"),
    "sqlite": ("langgraph.checkpoint.sqlite", "runs saved in SQLite"),
    "postgres": ("langgraph.checkpoint.postgres", "runs saved in PostgreSQL"),
    "monty": ("pydantic_monty", 'the executor "monty"'),
}
"""For each extra: a module that it installs, and its purpose."""

_CELL: Final = "print(sum(range(10)))"
_SECONDS: Final = 60.0  # for one question to a model


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: ``ok``; ``note``: a run works without it; ``problem``: a run would fail.
        detail: what was found.
        remedy: what to do, if it is not ``ok``.
    """

    name: str
    state: Literal["ok", "note", "problem"]
    detail: str
    remedy: str = ""


async def examine(models: Models) -> AsyncIterator[Check]:
    """Check everything, and yield each result when it is known.

    Each model is asked one short question, which costs a few tokens.
    """
    yield Check("version", "ok", f"rlm-adapters {__version__}, Python {platform.python_version()}, {platform.system()}")
    for check in (*_extras(), _sandbox()):
        yield check
    yield Check("prices", "ok", prices_source())
    if not models.model.strip():
        yield Check("model", "problem", "no model is named", "give --model provider:name, or set RLM_MODEL")
        return
    yield await _model("model", "root LM", models.model, models)
    if models.sub_model:
        yield await _model("sub-model", "sub-LM", models.sub_model, models)


def _extras() -> Iterator[Check]:
    for extra, (module, purpose) in _EXTRAS.items():
        if _is_installed(module):
            yield Check(f"extra {extra}", "ok", f"installed, for {purpose}")
        else:
            yield Check(
                f"extra {extra}", "note", f"not installed, for {purpose}", f"pip install 'rlm-adapters[{extra}]'"
            )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package
        return False


def _sandbox() -> Check:
    """Start a worker and run a cell in it."""
    from rlm_adapters.sandbox import Sandbox  # noqa: PLC0415 - starts nothing before it is needed

    try:
        with Sandbox() as sandbox, sandbox.open() as session:
            started = time.perf_counter()
            done = session.run(_CELL)
            seconds = time.perf_counter() - started
            report = sandbox.report
    except RLMError as error:
        return Check("sandbox", "problem", str(error), "see docs/security.md for what it needs")
    if done.error is not None:
        return Check("sandbox", "problem", f"a cell failed: {done.error.message}", "please report this")
    layers = ", ".join(report.layers) or "nothing"
    detail = f'isolation "{report.level}" ({layers}); a cell took {seconds * 1000:.0f} ms'
    if report.level == "os":
        return Check("sandbox", "ok", detail)
    remedy = "cells are confined by fewer layers of the operating system: run where Landlock and seccomp are allowed"
    return Check("sandbox", "note", f"{detail}; {'; '.join(report.notes)}", remedy)


async def _model(what: str, role: str, name: str, models: Models) -> Check:
    """Ask a model one short question, without retries."""
    from rlm_adapters.effects import adrive  # noqa: PLC0415

    limits = Limits(max_retries=0, call_timeout=_SECONDS)
    prompt = as_prompt("Reply with the word OK.")
    try:
        async with open_chat_model(name, base_url=models.base_url, api_key=models.api_key) as model:
            target = ChatTarget(model)
            caller = ModelCaller(Ledger(limits), Limiter(1))
            started = time.perf_counter()
            reply, _ = await adrive(caller.call(target, prompt, kind="root", owner="doctor", config={}, role=role))
    except (InputError, MissingExtraError) as error:
        return Check(what, "problem", str(error))
    except ModelCallError as error:
        return Check(what, "problem", str(error).removesuffix(f"; {error.remedy}"), error.remedy)
    seconds = time.perf_counter() - started
    place = f" at {target.address}" if target.address else ""
    price = PriceTable().find(target.name)
    cost = (
        f"${price.input:g} and ${price.output:g} per million tokens"
        if price
        else "price unknown: --max-cost needs --price"
    )
    said = " ".join(reply.text.split())[:40]
    if not said:
        return Check(what, "note", f"{name}{place} answered with no text", "check that it is a chat model")
    return Check(what, "ok", f"{name}{place} answered {said!r} in {seconds:.1f} s; {cost}")
