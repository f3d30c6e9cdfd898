"""`WordedSubModel`: a chat model that gets its prompts through a prompt file's ``sub_call`` predictor."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from langchain_core.runnables import RunnableConfig

from rlm_adapters.models.targets import ModelReply, Prompt, SubModel
from rlm_adapters.prompts.artefact import Predictor, as_message
from rlm_adapters.values.answers import to_plain


@dataclass(frozen=True, slots=True)
class WordedSubModel:
    """A `SubModel` that renders a prompt in the same way as DSPy's predictor.

    Attributes:
        model: the model that answers.
        predictor: has one input field and one output field.
        adapter: DSPy's adapter that was used for the optimisation.
    """

    model: SubModel
    predictor: Predictor
    adapter: Any = field(default_factory=dspy.ChatAdapter)

    @property
    def name(self) -> str:
        """That of the model."""
        return self.model.name

    def context_window(self) -> int | None:
        """That of the model."""
        return self.model.context_window()

    def estimate(self, prompt: Prompt) -> int:
        """Upper estimate of the tokens of the rendered prompt."""
        return self.model.estimate(self._worded(prompt))

    def invoke(self, prompt: Prompt, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Call the model."""
        return self._read(self.model.invoke(self._worded(prompt), config, max_tokens))

    async def ainvoke(self, prompt: Prompt, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Call the model."""
        return self._read(await self.model.ainvoke(self._worded(prompt), config, max_tokens))

    def _worded(self, prompt: Prompt) -> Prompt:
        """The rendered messages. A prompt with images is not changed."""
        if len(prompt) != 1 or not isinstance(prompt[0].content, str):
            return prompt
        (name,) = self.predictor.signature.input_fields
        demos = list(self.predictor.demos)
        return [
            as_message(one) for one in self.adapter.format(self.predictor.signature, demos, {name: prompt[0].content})
        ]

    def _read(self, reply: ModelReply) -> ModelReply:
        """The answer field. If the reply has none, the whole reply is the answer."""
        (name,) = self.predictor.signature.output_fields
        for adapter in (self.adapter, dspy.JSONAdapter()):
            with suppress(AdapterParseError, ValueError, TypeError):
                value = to_plain(adapter.parse(self.predictor.signature, reply.text)[name])
                return replace(reply, text=value if isinstance(value, str) else str(value))
        return reply
