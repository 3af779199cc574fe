"""The messages of a conversation, as clients send them and as answers come back, and options of the chat template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from llmserving.api.fields import Refusing, Strict, at_most
from llmserving.api.refused import MESSAGE, fault
from llmserving.rendering import RESERVED
from llmserving.words import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmserving.api.refused import Refusal

MAX_PARTS = 2048
MAX_OPTIONS = 32
# A template may count to a number, or repeat a text as often: what is this small ends soon.
LARGEST_OPTION = 1_000_000
LONGEST_OPTION = 1024


def _text_part(value: Any) -> Any:  # noqa: ANN401
    """Refuse a part that is no text, by its type."""
    kind = value.get("type") if isinstance(value, dict) else "text"
    if kind in ("text", "input_text", "output_text"):
        return value
    if kind == "refusal":
        return {"type": "text", "text": value.get("refusal")}
    text = f'a part of type {shown(kind)} cannot be read here: only parts of type "text"'
    raise PydanticCustomError("part", "{text}", {"text": text})


class TextPart(Strict):
    """A part of a message that is text; other kinds need another model."""

    type: str
    text: str


Part = Annotated[TextPart, BeforeValidator(_text_part)]
Parts = Annotated[list[Part], Field(fail_fast=True), at_most(MAX_PARTS)]


class Message(Refusing):
    """One message of a conversation; what an answer has beside its text may come back with it."""

    refusals: ClassVar[Mapping[str, Refusal]] = MESSAGE

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Parts | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise PydanticCustomError("content", "a message of the role {role} needs a content", {"role": self.role})
        if self.content and self.refusal:
            raise fault("refusal", "a message has either a content or a refusal", self.refusal)
        return self

    def plain(self) -> dict[str, str]:
        """Return the message as chat templates know it: role and text, and what some of them read besides."""
        parts = self.content or self.refusal or ""
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        role = "system" if self.role == "developer" else self.role
        more = {"name": self.name, "reasoning_content": self.reasoning_content}
        return {"role": role, "content": text} | {name: value for name, value in more.items() if value}


class ZhipuMessage(Strict):
    """One message of the Zhipu protocol."""

    role: Literal["system", "user", "assistant"]
    content: str

    def plain(self) -> dict[str, str]:
        """Return the message as chat templates know it."""
        return {"role": self.role, "content": self.content}


def _option(name: str) -> str:
    if name in RESERVED:
        raise PydanticCustomError("option", "this is no option of the chat template, but decides how it is applied")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,63}", name):
        raise PydanticCustomError("option", "an option's name is made of letters, digits and _")
    return name


def _scalar(value: Any) -> Any:  # noqa: ANN401
    """Refuse what is not small."""
    small = isinstance(value, (bool, int, float)) and abs(value) <= LARGEST_OPTION
    if not small and not (isinstance(value, str) and len(value) <= LONGEST_OPTION):
        text = f"true, false, a number up to {LARGEST_OPTION} or a string of up to {LONGEST_OPTION} characters"
        raise PydanticCustomError("option", "{text} is accepted, not {given}", {"text": text, "given": shown(value)})
    return value


TemplateOption = Annotated[str, AfterValidator(_option)]
Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
TemplateOptions = Annotated[dict[TemplateOption, Scalar], at_most(MAX_OPTIONS)]
