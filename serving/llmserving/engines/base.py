"""The interface between the routes and whatever computes tokens."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence

    from llmserving.tokenizer import Tokenizer

CHECK_SECONDS = 1  # between two looks at an engine that nobody else looks after
CHECKS = 3  # that fail, one after the other: a machine that was asleep hears of the engine a second after it woke


class EngineDeadError(RuntimeError):
    """The engine will not produce another token; the replica has to be replaced."""


class SequenceError(RuntimeError):
    """One sequence cannot go on, and the others can; the message is for its caller."""


class FormatError(ValueError):
    """No answer can be kept to a response format; the message is for its caller."""


class UnprovenError(Exception):
    """The engine does not compute what the plain model does; the message says how that was seen."""


class HangingError(UnprovenError):
    """The engine did not answer in time: its thread is lost, and with it the process that it runs in."""


REQUESTS = itertools.count()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one sequence is to be continued. Temperature 0 is greedy; top_k 0 means all tokens.

    Sequences of one `request` take their turn together; each other one is a request of its own.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None  # None: none wanted; 0: of the chosen token; k: of the k likeliest too
    stop_ids: frozenset[int] = frozenset()
    suppressed: frozenset[int] = frozenset()  # never in an answer, whatever a bias says
    schema: Mapping[str, object] | None = None  # a response format that `check_format` lets pass
    request: int = field(default_factory=REQUESTS.__next__, compare=False)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How many token ids a model can read, by its embedding, and choose from, by its logits.

    `biased`: how many of those an engine can bias or forbid in one sequence, None for all.
    """

    read: int
    chosen: int
    biased: int | None = None

    def of_these(self, ids: Iterable[int]) -> frozenset[int]:
        """Return the ids that the model can choose."""
        return frozenset(token for token in ids if token < self.chosen)


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token, with its log-probability and the likeliest others where they were asked for."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Stats:
    """What the engine is doing now; `cache_usage` is a share between 0 and 1."""

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0


class Engine(Protocol):
    """Continue sequences of token ids."""

    context_length: int  # prompt and answer together, in tokens
    vocabulary: Vocabulary

    @property
    def check_format(self) -> Callable[[Mapping[str, object]], None] | None:
        """Return what raises FormatError for one that no answer can be kept to; None: it knows no response formats.

        It takes its time: it is no work for the event loop.
        """
        ...

    def submit(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Token, None]:
        """Yield tokens as they are made, the stop token included; closing the generator cancels.

        The caller has checked that the prompt and `max_tokens` fit `context_length`, ids and biases the vocabulary.
        Raise EngineDeadError if the engine died; SequenceError, or another RuntimeError, if this one sequence failed.
        """
        ...

    def check_health(self) -> None:
        """Raise EngineDeadError if the engine cannot work."""
        ...

    def stats(self) -> Stats:
        """Return what the engine is doing now."""
        ...

    def close(self) -> None:
        """Stop, and end every sequence."""
        ...


class Vectors(Protocol):
    """Embed token ids."""

    embedding_tokens: int  # the longest text
    embedding_vocabulary: int  # ids below it can be read
    embedding_width: int  # the numbers of a vector

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one vector of length 1 for each prompt."""
        ...


@dataclass(frozen=True)
class Embedder:
    """What embeds, the tokenizer that goes with it, and what is put before each text."""

    tokenizer: Tokenizer
    vectors: Vectors
    prompt: str = ""
