"""A model of about 24 million parameters with random weights: the work of a real one, and nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.serving import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaConfig, PreTrainedTokenizerFast

VOCABULARY = 2048
END = "<|end|>"
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def build(folder: Path) -> Path:
    """Write the model and its tokenizer into `folder` unless they are there; return the folder."""
    if (folder / "config.json").exists():
        return folder
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    model = LlamaForCausalLM(_config(tokenizer))
    with torch.no_grad():
        # A zero row of the tied embedding: its logit is 0 and never the largest, so no greedy answer ends early.
        model.model.embed_tokens.weight[tokenizer.eos_token_id] = 0
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    from transformers import LlamaConfig  # noqa: PLC0415

    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import ByteLevelBPETokenizer  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    bpe = ByteLevelBPETokenizer()
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "serving").rglob("*.py"))]
    bpe.train_from_iterator(texts, vocab_size=VOCABULARY, special_tokens=[END], show_progress=False)
    parts = {"tokenizer_object": bpe._tokenizer, "eos_token": END, "pad_token": END}  # noqa: SLF001
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(**parts)
    fast.chat_template = TEMPLATE
    return fast
