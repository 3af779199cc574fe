"""transformers' `generate`, one sequence after the other: for models that continuous batching refuses."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from llmserving.engines import rope
from llmserving.engines.base import EngineDeadError, SequenceError, Stats
from llmserving.engines.sampler import SequenceState, choose
from llmserving.engines.turns import Line
from llmserving.engines.vocabulary import check, vocabulary_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from transformers import PreTrainedModel

    from llmserving.engines.base import Sampling, Token


class GenerateEngine:
    """Run one model's `generate` in one thread; the others wait for their turn."""

    check_format = None

    def __init__(self, model: PreTrainedModel, context_length: int) -> None:
        self.context_length = context_length
        self.vocabulary = vocabulary_of(model)
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generate")
        self._line: Line[Callable[[], None]] = Line()
        self._inside = 0
        self._error: str | None = None
        self.patience: Callable[[int], float] = lambda _: math.inf  # seconds for a step of so many tokens
        self._due = math.inf  # when the next token has to be there
        # Its authors' advice is in `Server.defaults`; here it would be applied a second time.
        model.generation_config = GenerationConfig()

    async def submit(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Token, None]:
        """Yield tokens as they are made; closing the generator ends the sequence at its next token."""
        self.check_health()
        loop, cancelled = asyncio.get_running_loop(), threading.Event()
        tokens: asyncio.Queue[Token | BaseException | None] = asyncio.Queue()

        def emit(item: Token | BaseException | None) -> None:
            loop.call_soon_threadsafe(tokens.put_nowait, item)

        work = partial(self._run, prompt, sampling, emit, cancelled)
        self._inside += 1
        try:
            self._line.add(sampling.request, work)
            self._thread.submit(self._take_turn)
            while (item := await tokens.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._inside -= 1
            cancelled.set()
            self._line.drop(sampling.request, work)  # its prompt would wait for as long as the running answer takes

    def _take_turn(self) -> None:
        """Do what is next in the line, which is not always what this turn was asked for with."""
        if work := self._line.take():
            work()

    def _run(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        emit: Callable[[Token | BaseException | None], None],
        cancelled: threading.Event,
    ) -> None:
        """Generate, in the engine's thread; the last thing emitted is None or an error."""
        if cancelled.is_set():
            return
        if self._error is not None:
            emit(EngineDeadError(self._error))
            return
        self._due = time.monotonic() + self.patience(len(prompt))
        try:
            self._generate(prompt, sampling, emit, cancelled)
        except torch.AcceleratorError as error:  # the device's context is lost for good
            self._error = f"the device failed: {error}"
            emit(EngineDeadError(self._error))
        except SequenceError as error:
            emit(error)
        except Exception as error:  # noqa: BLE001 - raised again by `submit`
            emit(RuntimeError(f"the sequence failed: {error}"))
        else:
            emit(None)
        finally:
            self._due = math.inf

    @torch.inference_mode()
    def _generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        emit: Callable[[Token], None],
        cancelled: threading.Event,
    ) -> None:
        check(prompt, self.vocabulary.read)
        rope.start_anew(self._model)
        state = SequenceState(prompt, sampling, self._model.device)
        ids = torch.tensor([list(prompt)], device=self._model.device)
        stop_ids = sorted(self.vocabulary.of_these(sampling.stop_ids))  # torch takes no larger numbers than its own

        def tell(token: Token) -> None:
            self._due = time.monotonic() + self.patience(1)
            emit(token)

        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([_Chooser(state, tell, self.vocabulary.read)]),
            stopping_criteria=StoppingCriteriaList([_Cancelled(cancelled)]),
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                eos_token_id=stop_ids or None,
                pad_token_id=stop_ids[0] if stop_ids else 0,
            ),
        )

    def check_health(self) -> None:
        """Raise EngineDeadError if the device failed, or if the next token takes longer than it ever should."""
        if self._error is not None:
            raise EngineDeadError(self._error)
        if time.monotonic() > self._due:
            raise EngineDeadError("the engine hangs: its next token takes far longer than the model's speed explains")

    def stats(self) -> Stats:
        """Count the sequence that is running and those that wait for it."""
        running = min(1, self._inside)
        return Stats(running, self._inside - running)

    def close(self) -> None:
        """Take no more sequences; the running one ends with its caller."""
        self._error = self._error or "the engine was stopped"
        self._thread.shutdown(wait=False, cancel_futures=True)
        while self._line:
            self._take_turn()  # tells whoever waits


class _Chooser(LogitsProcessor):
    """Choose the token, tell of it at once, and make it the likeliest."""

    def __init__(self, state: SequenceState, emit: Callable[[Token], None], known: int) -> None:
        self._state = state
        self._emit = emit
        self._known = known  # what the model cannot read again is no answer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Return scores [1, vocabulary] whose argmax is the choice."""
        chosen = choose(scores[:, : self._known], [self._state])
        if self._state.failure is not None:
            raise SequenceError(self._state.failure)
        self._emit(self._state.token(-1, int(chosen)))
        return scores.scatter(1, chosen.unsqueeze(1), torch.inf)


class _Cancelled(StoppingCriteria):
    """Stop when nobody waits any more."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ANN401, ARG002
        """Return, for each row, whether to stop."""
        return torch.full((len(input_ids),), self._event.is_set(), dtype=torch.bool, device=input_ids.device)
