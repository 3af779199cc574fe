"""Each architecture of transformers that continues text, made tiny: random weights of a wide spread.

A configuration is its class's own, with the sizes below wherever it has such a number, parts for pictures and sounds
included; `MORE` says what some want besides.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 400
CONTEXT = 1024
LARGEST = 20_000_000  # parameters: what is larger does not count as tiny

SIZES: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embed_dim", "word_embed_proj_dim", "emb_dim"), 64),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff", "dff"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads", "num_kv_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "n_head_kv"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), CONTEXT),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "top_k_experts", "moe_topk"), 2),
    "vocab_size": VOCABULARY,
    "head_dim": 16,
    "sliding_window": 24,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OFTEN_UNSET = ("head_dim", "num_key_value_heads")  # None for "as the others": here it is said

FOUR_LAYERS = {"num_hidden_layers": 4}  # every fourth of them is one of full attention
LATENT = {
    "head_dim": 8,
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
INDEXED = {**LATENT, "index_head_dim": 16, "index_n_heads": 2, "n_group": 1}
CAUSAL = {"is_decoder": True}  # an encoder by its defaults
MORE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "minicpm3", "youtu"), LATENT),
    "axk1": {**LATENT, "n_group": 2, "topk_group": 1},
    "deepseek_v2": {**LATENT, "first_k_dense_replace": 1, "num_experts_per_tok": 2, "n_routed_experts": 4},
    "deepseek_v3": {**LATENT, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1},
    "longcat_flash": {**LATENT, "zero_expert_num": 2, "num_layers": 1},
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text", "lfm3", "recurrent_gemma", "kimi_linear"),
        FOUR_LAYERS,
    ),
    "bailing_hybrid": {**LATENT, "num_hidden_layers": 8, "head_dim": 16},
    "deepseek_v32": INDEXED,
    "glm_moe_dsa": INDEXED,
    "dots1": {
        "n_group": 2,
        "topk_group": 1,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "num_experts_per_tok": 2,
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 96},
    },
    "zamba": {"num_hidden_layers": 4, "layer_types": ["mamba", "hybrid", "mamba", "hybrid"]},
    "zamba2": {"num_hidden_layers": 3, "layer_types": ["mamba", "hybrid", "mamba"], "hybrid_layer_ids": [1]},
    "xmod": {**CAUSAL, "default_language": "en_XX"},
    "gemma3n_text": {
        "num_hidden_layers": 5,
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 16,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 5,
    },
    "gemma4_text": {
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 16,
        "global_head_dim": 16,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "n_groups": 1},
    "zaya": {"num_experts_per_tok": 1},
    "codegen": {"rotary_dim": 8},
    "gptj": {"rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 24},
    "jamba": {**FOUR_LAYERS, "attn_layer_period": 2, "attn_layer_offset": 1},
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 16},
    **dict.fromkeys(
        ("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
        CAUSAL,
    ),
    **dict.fromkeys(
        ("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl"), CAUSAL
    ),
    "reformer": {
        **CAUSAL,
        "axial_pos_shape": [32, 32],
        "axial_pos_embds_dim": [32, 32],
        "attn_layers": ["local", "local"],
        "feed_forward_size": 96,
    },
}


def config(name: str) -> Any:
    """Return the tiny configuration of an architecture, by its `model_type`."""
    return _sized(CONFIG_MAPPING[name], MORE.get(name, {}))


def _sized(kind: Any, more: dict[str, Any]) -> Any:
    base = kind()
    values: dict[str, Any] = {}
    for name, size in SIZES.items():
        own = base.__dict__.get(name, "none")
        is_number = isinstance(own, int) and not isinstance(own, bool)
        if is_number or (own is None and name in OFTEN_UNSET):
            values[name] = size
    for name in getattr(kind, "sub_configs", {}):
        part = base.__dict__.get(name)
        if part is not None:
            values[name] = _sized(type(part), MORE.get(part.model_type, {})).to_dict()
    made = kind(**{**values, **more})
    made.get_text_config().initializer_range = 0.3  # wide: greedy choices are clear
    return made


def make(name: str) -> Any:
    """Return the tiny model; raise ValueError if its class does not get small."""
    tiny = config(name)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(tiny).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} parameters")
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny).eval()


def names() -> list[str]:
    """Return every `model_type` that transformers continues text with, encoder-decoders left out."""
    return [
        name
        for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        if not getattr(CONFIG_MAPPING[name], "is_encoder_decoder", False)
    ]
