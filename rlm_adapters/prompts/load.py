"""A chat model that follows a prompt file; DSPy, which renders it, is imported only here."""

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
    """A writer that follows a prompt file, and the answer that the file asks for.

    Raises:
        InputError: it is no prompt file.
        MissingExtraError: DSPy is not installed.
    """
    try:
        from rlm_adapters.prompts.artefact import ArtefactWriter, PromptArtefact  # noqa: PLC0415 - needs DSPy
    except ImportError as error:
        raise MissingExtraError("prompt files are rendered by DSPy: pip install 'rlm-adapters[dspy]'") from error
    artefact = PromptArtefact.load(prompt)
    return ArtefactWriter(target, artefact), artefact.output()


def prompted_sub_model(target: ChatTarget, prompt: PromptSource | None) -> SubModel:
    """The model of the sub-calls, in the words of a prompt file's ``sub_call`` predictor where it has one.

    Raises:
        InputError: it is no prompt file.
    """
    if prompt is None:
        return target
    from rlm_adapters.prompts.artefact import PromptArtefact  # noqa: PLC0415 - needs DSPy
    from rlm_adapters.prompts.sub_call import WordedSubModel  # noqa: PLC0415 - needs DSPy

    predictor = PromptArtefact.load(prompt).sub_call
    return target if predictor is None else WordedSubModel(target, predictor)


def reworded(sub: SubModel, target: ChatTarget) -> SubModel:
    """Another model for the sub-calls, in the words of the one before."""
    if isinstance(sub, ChatTarget):
        return target
    from rlm_adapters.prompts.sub_call import WordedSubModel  # noqa: PLC0415 - needs DSPy

    return replace(sub, model=target) if isinstance(sub, WordedSubModel) else target
