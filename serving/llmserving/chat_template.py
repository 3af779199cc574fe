"""In which form a chat template takes a message's content, found out by trying: some drop the other without a word."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from llmserving.overtime import OvertimeError, at_once
from llmserving.rendering import SECONDS

log = logging.getLogger(__name__)

Messages: TypeAlias = Sequence[Mapping[str, Any]]
Render: TypeAlias = Callable[[Messages], str]

ASKED, ANSWERED, ASKED_AGAIN, TOLD = "quokka", "pangolin", "axolotl", "narwhal"
QUESTION = [{"role": "user", "content": ASKED}]
CONVERSATION = [*QUESTION, {"role": "assistant", "content": ANSWERED}, {"role": "user", "content": ASKED_AGAIN}]
INSTRUCTED = [{"role": "system", "content": TOLD}, *QUESTION]


@dataclass(frozen=True)
class Form:
    """Say how to hand a conversation to a template, and which of a user's words it leaves out, if any."""

    parts: bool = False
    loses_words: bool = False
    loses_turns: bool = False

    def shape(self, messages: Messages) -> list[dict[str, Any]]:
        """Return messages, whose content is text, as the template takes them."""
        return [as_parts(message) if self.parts else dict(message) for message in messages]

    def refusal(self, messages: Messages) -> str | None:
        """Return why the template does not do for these messages: it would drop a part of them in silence."""
        if self.loses_words:
            return "leaves out what the user says, given as a string or as parts"
        if self.loses_turns and sum(message["role"] == "user" for message in messages) > 1:
            return "shows one message of the user's and leaves out the others: send one"
        return None


def as_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message whose text is a list of one part."""
    return {**message, "content": [{"type": "text", "text": message.get("content") or ""}]}


def find_form(render: Render) -> Form:
    """Return the form in which a template shows what a user says; a string where both do.

    A template that refuses every conversation that is tried says so to each caller itself.
    Raises OvertimeError for one that does not come to an end.
    """
    taken_before = False
    for conversation in (CONVERSATION, QUESTION, INSTRUCTED):
        words = {message["content"] for message in conversation if message["role"] == "user"}
        taken = False
        for form in (Form(parts=False), Form(parts=True)):
            found = _shown(render, form.shape(conversation))
            if found is not None and words <= found:
                _warn(render, form, conversation, found)
                return Form(form.parts, loses_turns=taken_before)
            taken = taken or found is not None
        taken_before = taken_before or taken
    if not taken_before:
        log.warning("the chat template takes none of the conversations that it was tried with")
    return Form(loses_words=taken_before)


def _shown(render: Render, messages: Messages) -> set[str] | None:
    """Return which of the probe's words are in the prompt, None where the template refuses the messages."""
    try:
        prompt = at_once(partial(render, messages), SECONDS)
    except OvertimeError:
        raise
    except Exception as error:  # noqa: BLE001 - a template is a program of its authors: anything can come
        log.debug("the chat template does not take %s: %s", messages, error)
        return None
    return {word for word in (ASKED, ANSWERED, ASKED_AGAIN, TOLD) if word in prompt}


def _warn(render: Render, form: Form, conversation: Messages, found: set[str]) -> None:
    """Say in the log what else a template leaves out."""
    if conversation is CONVERSATION and ANSWERED not in found:
        log.warning("the chat template leaves out what the assistant has said before")
    told = _shown(render, form.shape(INSTRUCTED))
    if told is not None and TOLD not in told:
        log.warning("the chat template leaves out what a system message says")
