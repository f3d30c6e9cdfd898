"""Load a prompt file for a chat model. DSPy, which renders it, is imported only here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rlm_adapters.errors import MissingExtraError
from rlm_adapters.models.targets import ChatTarget, SubModel
from rlm_adapters.prompts.writer import CodeWriter
from rlm_adapters.values.answers import OutputSpec

if TYPE_CHECKING:
    from rlm_adapters.prompts.artefact import PromptSource


def prompted_writer(target: ChatTarget, prompt: PromptSource) -> tuple[CodeWriter, OutputSpec]:
    """A writer for a prompt file, and the answer that the file asks for.

    Raises:
        InputError: it is not a prompt file.
        MissingExtraError: DSPy is not installed.
    """
    try:
        from rlm_adapters.prompts.artefact import ArtefactWriter, PromptArtefact  # noqa: PLC0415 - needs DSPy
    except ImportError as error:
        raise MissingExtraError("prompt files are rendered by DSPy: pip install 'rlm-adapters[dspy]'") from error
    artefact = PromptArtefact.load(prompt)
    return ArtefactWriter(target, artefact), artefact.output()


def prompted_sub_model(target: ChatTarget, prompt: PromptSource | None) -> SubModel:
    """The model of the sub-calls, which uses the ``sub_call`` predictor of a prompt file, if there is one.

    Raises:
        InputError: it is not a prompt file.
    """
    if prompt is None:
        return target
    from rlm_adapters.prompts.artefact import PromptArtefact  # noqa: PLC0415 - needs DSPy
    from rlm_adapters.prompts.sub_call import WordedSubModel  # noqa: PLC0415 - needs DSPy

    predictor = PromptArtefact.load(prompt).sub_call
    return target if predictor is None else WordedSubModel(target, predictor)


def reworded(sub: SubModel, target: ChatTarget) -> SubModel:
    """Another model for the sub-calls, with the same ``sub_call`` predictor."""
    if isinstance(sub, ChatTarget):
        return target
    from rlm_adapters.prompts.sub_call import WordedSubModel  # noqa: PLC0415 - needs DSPy

    return replace(sub, model=target) if isinstance(sub, WordedSubModel) else target
