"""The types of the parameters, and what all parts of a body have in common."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticKnownError

from llmserving.api import refused
from llmserving.words import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

MOST = 2**31 - 1  # a count beyond it is a mistake, whatever the context
NAMES_LOGGED = 20


def _whole(value: object) -> object:
    """Return 128.0 as 128: JSON has one kind of number, and some clients write every one with a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_length(value: object, most: int) -> None:
    """Refuse more entries before any is looked at: pydantic's own bound of an object comes after them all."""
    if isinstance(value, (list, dict)) and len(value) > most:
        raise PydanticKnownError("too_long", {"field_type": "", "max_length": most, "actual_length": len(value)})


def at_most(most: int) -> BeforeValidator:
    """Bound the entries of a list or an object."""

    def check(value: object) -> object:
        check_length(value, most)
        return value

    return BeforeValidator(check)


def prompts_at_most(most: int) -> BeforeValidator:
    """Bound the prompts in a list of several; the ids of a single one are bounded by the context."""

    def check(value: object) -> object:
        if isinstance(value, list) and not isinstance(next(iter(value), None), int):
            check_length(value, most)
        return value

    return BeforeValidator(check)


Whole = BeforeValidator(_whole)
Count = Annotated[int, Field(ge=1, le=MOST), Whole]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[list[Text], Field(fail_fast=True)]
TokenId = Annotated[int, Field(ge=0, le=MOST)]  # as it is written: there may be a million of them
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Lists = Annotated[list[TokenIds], Field(fail_fast=True)]


class Strict(BaseModel):
    """Refuse wrong types, a number in quotes too; keep what nobody knows, to ignore it by name."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class Refusing(Strict):
    """Refuse what a table says."""

    refusals: ClassVar[Mapping[str, refused.Refusal]] = {}

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        refused.check(self.refusals, self.model_extra or {})
        return self


def tell_what_is_ignored(body: BaseModel) -> None:
    """Name, in one line for the log, what a body says in vain."""
    if log.isEnabledFor(logging.DEBUG) and (names := list(islice(ignored(body), NAMES_LOGGED))):
        log.debug("%s: ignored, for it changes nothing here: %s", type(body).__name__, ", ".join(names))


def ignored(value: Any, *place: str) -> Iterator[str]:  # noqa: ANN401 - whatever a field holds
    """Yield the names of what a body says and no field is for, parts of its messages included."""
    if isinstance(value, Strict):
        yield from (dotted([*place, name]) for name in value.model_extra or {})
        for name in value.model_fields_set & type(value).model_fields.keys():
            yield from ignored(getattr(value, name), *place, name)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            if isinstance(one, Strict):
                yield from ignored(one, *place, str(index))
