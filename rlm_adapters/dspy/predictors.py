"""Use DSPy predictors as the models of the graph.

A graph node calls the predictor in a copy of the caller's context. So ``dspy.context``, traces, callbacks and usage
tracking treat it as a call of the caller's program.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspy.dsp.utils.settings import settings
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from rlm_adapters.dspy.streaming import where_it_can_stream
from rlm_adapters.dspy.usage import Measured, measured
from rlm_adapters.errors import ModelCallError
from rlm_adapters.models.failures import address_of, classify
from rlm_adapters.models.targets import ModelReply
from rlm_adapters.models.tokens import estimate_tokens
from rlm_adapters.prompts.steps import Step
from rlm_adapters.values.answers import to_plain

_REPLY_CHARS = 2_000  # of a reply that could not be parsed, kept in the history


class PredictorError(ModelCallError):
    """A predictor failed. It is not retried here, because a DSPy LM retries itself.

    Attributes:
        original: the exception of the predictor. The module raises it again.
    """

    def __init__(self, original: Exception) -> None:
        known = classify(original)
        kind = "context_length" if isinstance(original, ContextWindowExceededError) else known.kind
        super().__init__(str(known), kind=kind, retryable=False)
        self.original = original


@dataclass(slots=True)
class PredictorTarget:
    """A predictor as a `ModelTarget`; its prompt is the dict of input fields.

    Attributes:
        predictor: a ``dspy.Predict`` or anything that is called like one.
        outputs: the output fields that make up the reply.
        signature: returns the signature of a call, if it differs from that of the predictor.
        made: predictions in the order in which they were made, to clean up the trace.
        failure: exception of the last failed call.
        unread: the last reply that could not be parsed.
    """

    predictor: Any
    outputs: Sequence[str]
    signature: Callable[[], Any] | None = None
    made: list[Any] = field(default_factory=list)
    failure: Exception | None = None
    unread: str | None = None
    _estimated: tuple[Any, int] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the LM that answers."""
        lm = getattr(self.predictor, "lm", None) or settings.lm
        return str(getattr(lm, "model", None) or type(lm).__name__)

    @property
    def address(self) -> str | None:
        """The address in the LM's settings; None: the default address of its provider."""
        return address_of(getattr(self.predictor, "lm", None) or settings.lm)

    def estimate(self, prompt: Any) -> int:
        """Upper estimate of the tokens of fields and instructions, without demos."""
        last = self._estimated
        if last is not None and last[0] is prompt:
            return last[1]  # the same prompt is estimated several times
        instructions = getattr(getattr(self.predictor, "signature", None), "instructions", "")
        estimate = sum(estimate_tokens(_text(value)) for value in (*prompt.values(), instructions)) + 200
        self._estimated = (prompt, estimate)
        return estimate

    def messages_of(self, prompt: Any) -> list[tuple[str, str]]:
        """The instructions and the fields by name, without demos, for events and traces."""
        signature = (self.signature() if self.signature is not None else None) or getattr(
            self.predictor, "signature", None
        )
        fields = [(str(name), _text(value)) for name, value in prompt.items()]
        return [("instructions", str(getattr(signature, "instructions", ""))), *fields]

    def invoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:  # noqa: ARG002
        """Call the predictor."""
        try:
            with measured() as usage:
                options = self._options(max_tokens)
                prediction = where_it_can_stream(lambda: self.predictor(**prompt, **options))
        except GraphBubbleUp:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it raises goes to the caller of the module
            return self._failed(error, prompt, usage)
        return self._reply(prompt, prediction, usage)

    async def ainvoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:  # noqa: ARG002
        """Await the predictor."""
        try:
            with measured() as usage:
                prediction = await self.predictor.acall(**prompt, **self._options(max_tokens))
        except GraphBubbleUp:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it raises goes to the caller of the module
            return self._failed(error, prompt, usage)
        return self._reply(prompt, prediction, usage)

    def _options(self, max_tokens: int | None) -> dict[str, Any]:
        options: dict[str, Any] = {} if max_tokens is None else {"config": {"max_tokens": max_tokens}}
        if self.signature is not None and (signature := self.signature()) is not None:
            options["signature"] = signature
        return options

    def _reply(self, prompt: Any, prediction: Any, usage: Measured) -> ModelReply:
        self.made.append(prediction)
        text = json.dumps({name: to_plain(getattr(prediction, name, None)) for name in self.outputs})
        return ModelReply(
            text=text,
            input_tokens=usage.input_tokens or self.estimate(prompt),
            output_tokens=usage.output_tokens or estimate_tokens(text),
            details=usage.details,
        )

    def _failed(self, error: Exception, prompt: Any, usage: Measured) -> ModelReply:
        """The reply for a failed call. A reply that DSPy cannot parse is a mistake of the model; the run continues."""
        if not isinstance(error, AdapterParseError):
            self.failure = error
            raise PredictorError(error) from error
        reply = str(getattr(error, "lm_response", "") or "")
        return ModelReply(
            text=self._unparsable(reply),
            input_tokens=usage.input_tokens or self.estimate(prompt),
            output_tokens=usage.output_tokens or estimate_tokens(reply),
            details=usage.details,
        )

    def _unparsable(self, reply: str) -> str:
        """The text that replaces a reply which could not be parsed: no fields."""
        self.unread = reply
        return "{}"


class ActionTarget(PredictorTarget):
    """The action predictor. Its reply is a step of the trajectory."""

    def _unparsable(self, reply: str) -> str:
        problem = (
            "Your reply could not be read: give the fields `reasoning` and `code` in the format that was asked for. "
            f"Your reply began: {reply[:_REPLY_CHARS]!r}"
        )
        return Step("", "", problem).to_text()

    def _reply(self, prompt: Any, prediction: Any, usage: Measured) -> ModelReply:
        self.made.append(prediction)
        step = Step(str(getattr(prediction, "reasoning", "") or ""), str(prediction.code or ""))
        return ModelReply(
            text=step.to_text(),
            input_tokens=usage.input_tokens or self.estimate(prompt),
            output_tokens=usage.output_tokens or estimate_tokens(step.code + step.reasoning),
            details=usage.details,
        )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    formatted = getattr(value, "format", None)
    return str(formatted()) if callable(formatted) else str(value)
