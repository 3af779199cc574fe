"""What the server and its engine's process say to each other, pickled: both are this program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from llmserving.engines.base import Sampling, Stats, Token, Vocabulary


@dataclass(frozen=True, slots=True)
class Submit:
    """Continue a sequence."""

    number: int
    prompt: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Embed:
    """Embed some prompts."""

    number: int
    prompts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up the request with this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is in memory. Both lengths are in tokens.

    `embedding_vocabulary` is what the embedder can read, `embedding_width` the numbers of a vector; 0: none embeds.
    """

    context_length: int
    vocabulary: Vocabulary
    embedding_tokens: int = 0
    embedding_vocabulary: int = 0
    embedding_width: int = 0


@dataclass(frozen=True, slots=True)
class Proving:
    """The model is in memory, and an engine is about to prove itself on it: so many seconds may pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hanging:
    """The engine did not prove itself in time, and its thread is lost: the process is of no more use."""

    words: str


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """The model could not be loaded."""

    error: Exception


@dataclass(frozen=True, slots=True)
class End:
    """A request has its last item; `error` if it failed."""

    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What has been made since the last one, by the requests' numbers, and how the engine is: `unhealthy` says why."""

    items: list[tuple[int, Item]]
    stats: Stats
    unhealthy: str | None


if TYPE_CHECKING:
    Request: TypeAlias = Submit | Embed
    Item: TypeAlias = Token | list[list[float]] | End
