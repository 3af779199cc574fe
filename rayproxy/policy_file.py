"""Read the file that says which namespaces may have which names: RAYPROXY_NAME_POLICY."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from rayproxy.kinds.grants import Grant
from rayproxy.selector import Matcher, expression
from rayproxy.validation_errors import reasons
from rayproxy.yaml_documents import documents

MAX_BYTES = 256 * 1024

_Pattern = Annotated[str, Field(pattern=r"^[a-z0-9*.-]{1,63}$")]
_Patterns = Annotated[list[_Pattern], Field(min_length=1)]


class PolicyError(Exception):
    """Say what is wrong with a name policy, and where."""


class Expression(BaseModel):
    """One of a LabelSelector's matchExpressions."""

    model_config = ConfigDict(extra="forbid")

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        self.matcher()
        return self

    def matcher(self) -> Matcher:
        """Return what it means; raise ValueError."""
        return expression(self.key, self.operator, self.values)


class LabelSelector(BaseModel):
    """Kubernetes' own, all of which must match; null is refused: what is not written yet would match everything."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, str] = Field(default={}, alias="matchLabels")
    expressions: list[Expression] = Field(default=[], alias="matchExpressions")

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            expression(key, "In", [value])
        return labels

    def matcher(self) -> Matcher | None:
        """Return what it means, None for every namespace, whatever its labels are."""
        terms = [expression(key, "In", [value]) for key, value in self.labels.items()]
        terms += [each.matcher() for each in self.expressions]
        return (lambda labels: all(term(labels) for term in terms)) if terms else None


class Entry(BaseModel):
    """An entry of the file, which grants its names to the namespaces that it describes in one way or in both."""

    model_config = ConfigDict(extra="forbid")

    namespaces: _Patterns = []
    selector: LabelSelector = Field(default=LabelSelector(), alias="namespaceSelector")
    names: _Patterns

    @model_validator(mode="after")
    def _is_for_somebody(self) -> Self:
        if not {"namespaces", "selector"} & self.model_fields_set:
            raise ValueError("it needs namespaces, a namespaceSelector, or both")
        return self

    def grant(self) -> Grant:
        """Return what it grants."""
        return Grant(tuple(self.namespaces) or ("*",), tuple(self.names), self.selector.matcher())


_ENTRIES = TypeAdapter(list[Entry])


def read(path: Path) -> bytes:
    """Return the text; raise PolicyError."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"the name policy {path} cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise PolicyError(f"the name policy {path} is larger than {MAX_BYTES} bytes")
    return text


def parse(path: Path, text: bytes, *, labels: bool) -> tuple[Grant, ...]:
    """Return what the text grants; raise PolicyError, also for what goes by labels where nobody knows any."""
    try:
        found = documents(text, unique=True)  # a selector's part that is lost would grant more than is written
    except ValueError as error:
        raise PolicyError(f"the name policy {path} is not YAML: {error}") from error
    if len(found) > 1:
        raise PolicyError(f"the name policy {path} holds {len(found)} documents: put all entries into one list")
    try:
        entries = _ENTRIES.validate_python(found[0] if found else None)
    except ValidationError as error:
        raise PolicyError(f"the name policy {path}: {'; '.join(reasons(error))}") from error
    listed = tuple(entry.grant() for entry in entries)
    for number, grant in enumerate(listed):
        if grant.matches and not labels:
            words = "a folder of manifests says no labels of namespaces: write namespaces in its place"
            raise PolicyError(f"the name policy {path}: --{number}.namespaceSelector: {words}")
    return listed
