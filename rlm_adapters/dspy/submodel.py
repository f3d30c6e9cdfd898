"""`SubLM`: a DSPy LM (or a whole DSPy program) that answers ``llm_query``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, cast

import dspy
from dspy.dsp.utils.settings import settings
from dspy.utils.exceptions import AdapterParseError
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from rlm_adapters.dspy.predictors import PredictorError
from rlm_adapters.dspy.requests import to_request
from rlm_adapters.dspy.streaming import where_it_can_stream
from rlm_adapters.dspy.usage import Measured, measured
from rlm_adapters.errors import InputError
from rlm_adapters.models.failures import address_of
from rlm_adapters.models.targets import ModelReply, Prompt
from rlm_adapters.models.tokens import estimate_tokens

_WORDING: Final = (
    "Do what the prompt asks with the text that it contains. The answer is read by a program: give only what was asked "
    "for, in the form that was asked for."
)


@dataclass(frozen=True, slots=True)
class SubLM:
    """An LM as a `SubModel`.

    Attributes:
        lm: a ``dspy.LM`` or anything that is called like one, or a ``dspy.Module`` with one input field, such as
            another RLM; None: ``dspy.settings.lm`` at the time of each call.
        wording: a predictor that calls the LM with a prompt; None: the LM gets the prompt unchanged.
    """

    lm: Any = None
    wording: Any = None

    @property
    def name(self) -> str:
        """Name of the model."""
        lm = self.lm if self.lm is not None else settings.lm
        return str(getattr(lm, "model", None) or type(lm).__name__)

    @property
    def address(self) -> str | None:
        """The address in the LM's settings; None: the default address of its provider."""
        return address_of(self.lm if self.lm is not None else settings.lm)

    def context_window(self) -> int | None:
        """None: DSPy does not know it."""
        return None

    def estimate(self, prompt: Prompt) -> int:
        """Upper estimate of the prompt's tokens."""
        return sum(estimate_tokens(str(message.text)) for message in prompt) + 8

    def invoke(self, prompt: Prompt, config: RunnableConfig, max_tokens: int | None) -> ModelReply:  # noqa: ARG002
        """Call the LM."""
        lm = self._current()
        if self._worded(prompt):
            lm = self.wording
        args, kwargs = _call(lm, prompt, max_tokens)
        try:
            with measured() as usage, self._asked(lm):
                response = where_it_can_stream(lambda: lm(*args, **kwargs))
            return self._reply(prompt, _text_of(lm, response), usage)
        except GraphBubbleUp:
            raise
        except Exception as error:
            if lm is self.wording and isinstance(error, AdapterParseError):
                return self._reply(prompt, _unframed(error), usage)
            raise PredictorError(error) from error

    async def ainvoke(self, prompt: Prompt, config: RunnableConfig, max_tokens: int | None) -> ModelReply:  # noqa: ARG002
        """Call the LM, in a thread if it has no async form."""
        lm = self._current()
        if self._worded(prompt):
            lm = self.wording
        args, kwargs = _call(lm, prompt, max_tokens)
        acall = getattr(lm, "acall", None)
        try:
            with measured() as usage, self._asked(lm):
                if acall is None:
                    response = await asyncio.to_thread(lm, *args, **kwargs)
                else:
                    response = await acall(*args, **kwargs)
            return self._reply(prompt, _text_of(lm, response), usage)
        except GraphBubbleUp:
            raise
        except Exception as error:
            if lm is self.wording and isinstance(error, AdapterParseError):
                return self._reply(prompt, _unframed(error), usage)
            raise PredictorError(error) from error

    def _worded(self, prompt: Prompt) -> bool:
        """Whether the predictor is used: for plain text, not for images."""
        return self.wording is not None and isinstance(prompt[0].content, str)

    def _asked(self, module: Any) -> AbstractContextManager[Any]:
        """A context with the LM for the predictor, unless it has its own."""
        if self.lm is None or module is not self.wording or isinstance(self.lm, dspy.Module):
            return nullcontext()
        return cast("AbstractContextManager[Any]", dspy.context(lm=self.lm))

    def _current(self) -> Any:
        lm = self.lm if self.lm is not None else settings.lm
        if lm is None:
            error = dspy.LMNotConfiguredError("No LM configured. Use dspy.configure(lm=...) or pass sub_lm to RLM.")
            raise PredictorError(error) from None
        return lm

    def _reply(self, prompt: Prompt, text: str, usage: Measured) -> ModelReply:
        return ModelReply(
            text=text,
            input_tokens=usage.input_tokens or self.estimate(prompt),
            output_tokens=usage.output_tokens or estimate_tokens(text),
            details=usage.details,
        )


def _unframed(error: AdapterParseError) -> str:
    """The answer of a predictor whose LM left out the field markers: its text is the only field."""
    return str(getattr(error, "lm_response", "") or "").strip()


def _call(lm: Any, prompt: Prompt, max_tokens: int | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of the call: plain text as in dspy.RLM, content blocks as a message."""
    content = prompt[0].content
    options = {} if max_tokens is None else {"max_tokens": max_tokens}
    if isinstance(lm, dspy.Module):
        config = {"config": options} if options and isinstance(lm, dspy.Predict) else {}
        return (), {only_field(lm, "input"): str(prompt[0].text), **config}
    if isinstance(content, str):
        return (content,), options
    return (to_request(str(getattr(lm, "model", "")) or "lm", prompt, {**getattr(lm, "kwargs", {}), **options}),), {}


def sub_call_signature(given: Any) -> Any:
    """The signature of `RLM`'s ``sub_call`` predictor.

    Raises:
        InputError: it does not have exactly one input and one output.
    """
    if given is True:
        return dspy.Signature("prompt -> answer", _WORDING)
    signature = dspy.Signature(given) if isinstance(given, str) else given
    fields = (list(getattr(signature, "input_fields", ())), list(getattr(signature, "output_fields", ())))
    if [len(names) for names in fields] != [1, 1] or signature.output_fields[fields[1][0]].annotation is not str:
        raise InputError(f"sub_call={given!r}: give a signature with one input and one text output, 'prompt -> answer'")
    return signature


def only_field(module: Any, kind: str) -> str:
    """The only input or output field of a module that is used as an LM.

    Raises:
        InputError: it has several fields.
    """
    signature = getattr(module, "signature", None)
    if signature is None:
        predictors = module.predictors()
        signature = predictors[0].signature if len(predictors) == 1 else None
    fields = list(getattr(signature, f"{kind}_fields", ()))
    if len(fields) != 1:
        raise InputError(
            f"sub_lm={type(module).__name__} has the {kind} fields {fields}: a module that answers llm_query needs "
            "one of each, such as 'prompt -> answer'"
        )
    return str(fields[0])


def _text_of(lm: Any, response: Any) -> str:
    """The text of an LM's response, by the rules of dspy.RLM."""
    if isinstance(lm, dspy.Module):
        return str(getattr(response, only_field(lm, "output")))
    if isinstance(response, dspy.lm15.Response):
        text: Any = response.text
    elif isinstance(response, list) and response:
        text = response[0].get("text") if isinstance(response[0], Mapping) else response[0]
    else:
        raise TypeError(
            f"Sub-LM must return dspy.lm15.Response or a non-empty list of text outputs, got {type(response).__name__}."
        )
    if not isinstance(text, str):
        raise TypeError(f"Sub-LM response must contain text, got {type(text).__name__}.")
    return text
