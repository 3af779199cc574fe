"""vLLM, where it is installed and a GPU is there: an image of its own, since it pins other versions."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any

import torch
from vllm import SamplingParams
from vllm.config import StructuredOutputsConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError as VllmDeadError

from llmserving import loading
from llmserving.engines.base import EngineDeadError, FormatError, SequenceError, Stats, Token, Vocabulary
from llmserving.engines.encoder import load_encoder
from llmserving.engines.vocabulary import check_suppressed
from llmserving.files.adapters import largest_rank, read_config

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from llmserving.engines.base import Sampling
    from llmserving.engines.encoder import Encoder
    from llmserving.loading import Folders
    from llmserving.settings import Settings

MOST_BIASES = 1024  # of one sequence, the forbidden tokens included: one more would end vLLM's worker
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
GIVEN_UP = ("error", "abort")  # how vLLM ends a sequence that it does not finish
REASON = 200  # characters of it: xgrammar's may repeat the whole schema
PLACE = re.compile(r"\[[\d:]+\] \S+:\d+: ")  # the time, and a line of xgrammar's source: nothing to a caller


def load_vllm(settings: Settings) -> tuple[VllmEngine, Encoder | None]:
    """Load the model into vLLM, and what embeds, if the settings name a model for that."""
    folders = loading.find_folders(settings)
    config = loading.read_config(settings, folders)
    length, size = loading.context_length(config, settings), config.get_text_config().vocab_size
    vocabulary = Vocabulary(size, size, MOST_BIASES)
    advice = loading.read_advice(folders)
    check_suppressed(advice.suppressed, vocabulary, "vllm", advice.file)
    return VllmEngine(settings, folders, length, vocabulary), load_encoder(settings)


class VllmEngine:
    """Run one model in vLLM's own process, its adapter beside it."""

    def __init__(self, settings: Settings, folders: Folders, context_length: int, vocabulary: Vocabulary) -> None:
        self.context_length = context_length
        self.vocabulary = vocabulary
        self._inside = 0
        self._ids = itertools.count()
        self._adapter = LoRARequest("adapter", 1, str(folders.adapter)) if folders.adapter else None
        self._engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**engine_arguments(settings, folders, context_length))
        )

    def check_format(self, response_format: Mapping[str, object]) -> None:
        """Raise FormatError where vLLM has no grammar for it; vLLM itself says so only once the answer has begun."""
        config = self._engine.vllm_config
        try:
            SamplingParams(structured_outputs=structure(response_format)).verify(
                config.model_config,
                config.speculative_config,
                config.structured_outputs_config,
                self._engine.tokenizer,
            )
        except (VLLMValidationError, ValueError) as error:
            reason = PLACE.sub("", str(error)).strip()[:REASON]
            raise FormatError(f"vLLM cannot keep an answer to it: {reason}") from error

    async def submit(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Token, None]:
        """Yield tokens as they are made; vLLM aborts the request when its generator is closed."""
        self._inside += 1
        try:
            async for output in self._engine.generate(
                TokensPrompt(prompt_token_ids=list(prompt)),
                sampling_parameters(sampling, self.vocabulary),
                f"sequence-{next(self._ids)}",
                lora_request=self._adapter,
            ):
                for token in tokens(output.outputs[0], sampling.logprobs):
                    yield token
                if output.outputs[0].finish_reason in GIVEN_UP:
                    raise SequenceError("vLLM gave it up, and its log says why")
        except VllmDeadError as error:
            raise EngineDeadError(f"vLLM died: {error}") from error
        finally:
            self._inside -= 1

    def check_health(self) -> None:
        """Raise EngineDeadError if vLLM's process ended."""
        if self._engine.errored:
            raise EngineDeadError(f"vLLM died: {self._engine.dead_error}")

    def stats(self) -> Stats:
        """Count the sequences inside; vLLM alone knows which of them wait."""
        return Stats(running=self._inside)

    def close(self) -> None:
        """Stop vLLM's process."""
        self._engine.shutdown()


def engine_arguments(settings: Settings, folders: Folders, context_length: int) -> dict[str, Any]:
    """Return vLLM's arguments for the settings."""
    arguments: dict[str, Any] = {
        "model": str(folders.weights),
        "tokenizer": str(folders.tokenizer),
        "max_model_len": context_length,
        "max_num_seqs": settings.max_running,
        "dtype": loading.pick_dtype(settings, loading.pick_device(settings)),
        "quantization": settings.quantization,
        "trust_remote_code": settings.trust_remote_code,
        "tensor_parallel_size": settings.tensor_parallel_size or max(1, torch.cuda.device_count()),
        "load_format": "auto" if settings.allow_pickle else "safetensors",
        "enable_lora": folders.adapter is not None,
        "disable_log_stats": True,
        # Not "auto": of the several it picks from, the first request's is everybody's for good, whatever theirs need.
        "structured_outputs_config": StructuredOutputsConfig(backend="xgrammar"),
    }
    if torch.cuda.is_available():
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    if folders.adapter is not None:
        arguments["max_lora_rank"] = lora_rank(read_config(folders.adapter))
    return arguments


def lora_rank(adapter: Mapping[str, Any]) -> int:
    """Return an adapter's largest rank, as the next size that vLLM has."""
    largest = largest_rank(adapter)
    return next((size for size in LORA_RANKS if size >= largest), largest)


def sampling_parameters(sampling: Sampling, vocabulary: Vocabulary) -> SamplingParams:
    """Return vLLM's parameters; text, stop strings and the end of an answer are decided here and not there."""
    biases = {**sampling.logit_bias, **dict.fromkeys(vocabulary.of_these(sampling.suppressed), -math.inf)}
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logit_bias=biases or None,
        logprobs=sampling.logprobs,
        ignore_eos=True,
        stop_token_ids=sorted(sampling.stop_ids),
        structured_outputs=structure(sampling.schema),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def structure(response_format: Mapping[str, Any] | None) -> StructuredOutputsParams | None:
    """Return what vLLM has to keep an answer to, for OpenAI's response formats."""
    if response_format is None:
        return None
    if response_format["type"] == "json_object":
        return StructuredOutputsParams(json_object=True)
    return StructuredOutputsParams(json=response_format["json_schema"]["schema"])


def tokens(output: Any, others: int | None) -> list[Token]:  # noqa: ANN401 - vLLM's CompletionOutput
    """Return the new tokens of an output, with the log-probabilities of the likeliest if they were asked for."""
    if others is None:
        return [Token(token_id) for token_id in output.token_ids]
    return [
        Token(token_id, entries[token_id].logprob, likeliest(entries, others))
        for token_id, entries in zip(output.token_ids, output.logprobs, strict=True)
    ]


def likeliest(entries: Mapping[int, Any], count: int) -> tuple[tuple[int, float], ...]:
    """Return the ids and log-probabilities of the first ranks; vLLM adds the chosen token to them."""
    ranked = sorted((entry.rank, token_id, entry.logprob) for token_id, entry in entries.items())
    return tuple((token_id, logprob) for rank, token_id, logprob in ranked if rank <= count)
