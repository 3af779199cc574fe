"""A model of the project's own, for a machine that cannot fetch one: it knows the pairs and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pairs import Pair, batch
from tokenizers import ByteLevelBPETokenizer
from train import Limits, fit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = Limits(rate=3e-3, steps=400, seconds=300.0, loss=0.01)
START, END = "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(pairs: list[Pair], target: Path) -> None:
    """Train a model of about half a million parameters on the pairs and write it into `target`."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(pairs)
    model = LlamaForCausalLM(_config(tokenizer))
    data = batch(tokenizer, pairs)
    fit(lambda: model(**data, use_cache=False).loss, model.parameters(), LIMITS, "learning")
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _tokenizer(pairs: list[Pair]) -> PreTrainedTokenizerFast:
    bpe = ByteLevelBPETokenizer()
    texts = [text for pair in pairs for text in pair]
    bpe.train_from_iterator(texts, vocab_size=512, min_frequency=2, special_tokens=[START, END], show_progress=False)
    parts = {"tokenizer_object": bpe._tokenizer, "eos_token": END, "pad_token": END}  # noqa: SLF001
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(**parts)  # type: ignore[no-untyped-call]
    fast.chat_template = TEMPLATE
    return fast


def _config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
