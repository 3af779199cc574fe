"""transformers' continuous batching: sequences join and leave the running batch at every token.

Five habits of transformers 5.23 are made up for here:
- a prompt that can never fit the cache ends the worker for everybody: `context_length` is what one sequence can
  have of the cache, and the caller checks against it;
- a cancelled request's handler stays registered and nobody is told: it is taken out here, by its owner;
- a request cancelled while it is being handed over runs on: a sequence that nobody waits for is cancelled again
  when its next token is chosen;
- a token that comes after that is kept, with its whole prompt, for somebody to fetch: here nobody does;
- sequences begin in the order in which they came: here requests take turns.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor
from transformers.generation.continuous_batching.model_runner import infer_max_single_request_tokens
from transformers.generation.logits_process import LogitsProcessorList

from llmserving import container
from llmserving.engines import attention, budget
from llmserving.engines.base import EngineDeadError, SequenceError, Stats
from llmserving.engines.sampler import SequenceState, choose
from llmserving.engines.turns import in_turn
from llmserving.engines.vocabulary import check, vocabulary_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from transformers import PreTrainedModel
    from transformers.generation.configuration_utils import ContinuousBatchingConfig
    from transformers.generation.continuous_batching.requests import FutureRequestState, GenerationOutput

    from llmserving.engines.base import Sampling, Token
    from llmserving.settings import Settings

PATROL_SECONDS = 5.0  # a waiting sequence looks after the worker this often
STALL_SECONDS = 300.0  # one step never takes so long: the worker hangs; until the model's speed has been measured


class ContinuousEngine:
    """Run one model's continuous batching in its worker thread."""

    check_format = None

    def __init__(
        self, model: PreTrainedModel, context_length: int, settings: Settings, space: int | None = None
    ) -> None:
        self._states: dict[str, SequenceState] = {}
        self._ids = itertools.count()
        self._device = model.device
        self.vocabulary = vocabulary_of(model)
        self.dtype = model.dtype
        self.stall_seconds = STALL_SECONDS
        ours = (
            attention.install()
        )  # on a GPU for the models alone that transformers gives this name to: it caps no scores
        if model.device.type == "cpu":
            model.set_attn_implementation(ours)
        self._manager = model.init_continuous_batching(
            GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=1),
            batching_config(model, context_length, settings, space),
        )
        self._manager.output_router.output_queue = _Nowhere()
        self._chooser = self._install_chooser()
        self._places = settings.max_running
        with budget.explained("the cache"):
            self._manager.warmup()  # makes it, here, where a model that is refused can be answered for
        self._take_turns()
        longest = infer_max_single_request_tokens(self._manager.batch_processor.cache)
        self.context_length = budget.served_length(context_length, longest, settings)
        self._manager.start()

    def submit(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Token, None]:
        """Yield tokens as the worker makes them; closing the generator frees the sequence's place."""
        return self.follow(prompt, SequenceState(prompt, sampling, self._device))

    async def follow(self, prompt: Sequence[int], state: SequenceState) -> AsyncGenerator[Token, None]:
        """Yield tokens as `submit` does; `state` chooses them."""
        self.check_health()
        check(prompt, self.vocabulary.read)
        request_id = f"sequence-{next(self._ids)}"
        outputs: asyncio.Queue[GenerationOutput] = asyncio.Queue()
        if not self._is_busy():
            self._chooser.last_step = time.monotonic()  # nothing to do since the last one is no stall
        self._states[request_id] = state
        self._manager.register_result_handler(request_id, outputs.put_nowait)
        finished, seen = False, 0
        try:
            self._hand_over(request_id, prompt, state.sampling)
            while not finished:
                output = await self._next(outputs)
                finished = output.is_finished()
                if output.error is not None:
                    raise self._failure(output.error)
                for token_id in output.generated_tokens[seen:]:
                    if state.failure is not None:
                        raise SequenceError(state.failure)
                    yield state.token(seen, token_id)
                    seen += 1
        finally:
            self._forget(request_id, finished=finished)

    def _hand_over(self, request_id: str, prompt: Sequence[int], sampling: Sampling) -> None:
        accepted = self._manager.add_request(
            list(prompt),
            request_id=request_id,
            max_new_tokens=sampling.max_tokens,
            streaming=True,
            eos_token_id=sorted(sampling.stop_ids) or -1,
        )
        if accepted is None:
            raise EngineDeadError("the continuous batching worker takes no more requests")

    def _failure(self, error: str) -> RuntimeError:
        """Return what a sequence's error means: a worker that dies fails them all before it says what of."""
        if self._manager.background_thread_status.can_accept_new_requests() is None:
            return RuntimeError(f"the sequence failed: {error}")
        return EngineDeadError(f"the continuous batching worker died: {error}")

    async def _next(self, outputs: asyncio.Queue[GenerationOutput]) -> GenerationOutput:
        """Return the next output, looking after the worker while there is none."""
        while True:
            try:
                async with asyncio.timeout(PATROL_SECONDS):
                    return await outputs.get()
            except TimeoutError:
                self.check_health()

    def _forget(self, request_id: str, *, finished: bool) -> None:
        self._states.pop(request_id, None)
        if not finished:
            self._manager.output_router.result_handlers.pop(request_id, None)
            self._manager.cancel_request(request_id)

    def _install_chooser(self) -> _Chooser:
        """Put our choice of tokens where transformers' processors would be."""
        chooser = _Chooser(self._choose)
        processors = self._manager.logit_processor
        processors.logits_processor = LogitsProcessorList([chooser])
        processors.tensors_required = 1
        processors.do_processing = True
        return chooser

    def _take_turns(self) -> None:
        """Let requests take turns where transformers asks for the sequences that wait."""
        scheduler = self._manager.batch_processor.scheduler
        as_they_came = scheduler._get_waiting_candidates  # noqa: SLF001 - no other way

        def candidates() -> list[Any]:  # in the worker thread, at each step
            waiting = [(state, self._request(state.request_id)) for state in as_they_came()]
            if not waiting:
                return []
            return in_turn(waiting, map(self._request, scheduler.active_requests), self._places)

        scheduler._get_waiting_candidates = candidates  # noqa: SLF001

    def _request(self, request_id: str) -> int:
        """Return the number of a sequence's request, of its own where it was given up."""
        state = self._states.get(request_id)
        return -1 if state is None else state.sampling.request

    def _choose(self, logits: torch.Tensor, request_ids: Sequence[str]) -> torch.Tensor:
        """Return each row's next token. Runs in the worker thread."""
        states = [self._states.get(request_id) for request_id in request_ids]
        for request_id, state in zip(request_ids, states, strict=True):
            if state is None:
                self._manager.cancel_request(request_id)
        return choose(logits[:, : self.vocabulary.read], states)  # what it cannot read again is no answer

    def check_health(self) -> None:
        """Raise EngineDeadError if the worker ended, or hangs in a step."""
        status = self._manager.background_thread_status
        refusal = status.can_accept_new_requests()  # it stops before it says what of
        if refusal is not None or not self._manager.is_running():
            raise EngineDeadError(f"the continuous batching worker died: {status.fatal_error or refusal}")
        if self._is_busy() and time.monotonic() - self._chooser.last_step > self.stall_seconds:
            raise EngineDeadError(
                f"the continuous batching worker has made no step for {self.stall_seconds:.0f} seconds"
            )

    def _is_busy(self) -> bool:
        """Return whether the worker has something to do: sequences that their callers gave up, too."""
        return bool(self._states) or any(self._held())

    def _held(self) -> tuple[int, int]:
        """Return how many sequences the worker computes, and how many wait for it."""
        processor = self._manager.batch_processor
        if processor is None:
            return 0, 0
        scheduler = processor.scheduler
        return len(scheduler.active_requests), len(scheduler.waiting_requests) + self._manager.input_queue.qsize()

    def stats(self) -> Stats:
        """Return what the worker's scheduler holds."""
        processor = self._manager.batch_processor
        return Stats() if processor is None else Stats(*self._held(), cache_usage(processor.cache))

    def close(self) -> None:
        """Stop the worker; what is running fails."""
        self._manager.stop(block=True, timeout=10, hard_stop=True)


class _Nowhere(queue.Queue):  # type: ignore[type-arg]
    """Keep nothing."""

    def put(self, *_: object, **__: object) -> None:
        """Drop the output of a sequence that was given up."""


class _Chooser(ContinuousBatchingLogitsProcessor):
    """Know which request each row of logits belongs to, and make the chosen token the likeliest."""

    supported_kwargs: dict[str, type] = {}  # noqa: RUF012 - as the base class has it
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, choose: Callable[[torch.Tensor, Sequence[str]], torch.Tensor]) -> None:
        self._choose = choose
        self._request_ids: list[str] = []
        self.last_step = time.monotonic()

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Use no tensor of arguments."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Remember the order of the rows; this comes before each forward pass, in the same thread."""
        self.last_step = time.monotonic()
        self._request_ids = [request.state.request_id for request in requests_with_new_token]
        return torch.zeros(len(self._request_ids), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Return scores [rows, vocabulary] whose argmax is the choice."""
        rows = len(self._request_ids)
        if rows:
            chosen = self._choose(scores[:rows], self._request_ids)
            scores[:rows].scatter_(1, chosen.unsqueeze(1), torch.inf)
        return scores


def cache_usage(cache: Any) -> float:  # noqa: ANN401 - transformers' PagedAttentionCache
    """Return the share of the cache that sequences hold; beginnings kept for the next ones are given up at need."""
    kept = sum(len(part.ledger.cached_blocks) * part.bytes_per_block for part in cache.cache_allocators.values())
    free: float = cache.compute_free_capacity(relative=False) + kept
    whole: float = cache.num_sectors * cache.bytes_per_sector
    return max(0.0, 1.0 - free / whole)


def batching_config(
    model: PreTrainedModel, context_length: int, settings: Settings, space: int | None
) -> ContinuousBatchingConfig:
    """Return how large the cache and a step may be: on a CPU, in `space` bytes; on a GPU by its share, or as set."""
    if model.device.type == "cpu":
        left = budget.room(container.memory_left(), model) if space is None else space
        made = budget.plan(budget.Shape.of(model), context_length, settings, left)
        return budget.options(settings, num_blocks=made.pages, max_memory_percent=1.0)
    if settings.kv_cache_tokens:
        tokens = max(settings.kv_cache_tokens, context_length)
        return budget.options(settings, num_blocks=-(-tokens // budget.PAGE_TOKENS) + 1)
    return budget.options(settings, max_memory_percent=settings.gpu_memory_utilization)
