"""Every kind of adapter that PEFT has: the model says what PEFT says, merged or not, or it is refused."""

import loads
import pytest
import torch

pytestmark = pytest.mark.models

NEAR = 1e-3  # of logits that are some 10 apart
TARGETS = {"target_modules": ["q_proj", "v_proj"]}
MERGED, BESIDE, REFUSED = "merged", "beside the weights", "refused"

# The class of the configuration, its options, what becomes of it.
LORA = {
    "plain": ({}, MERGED),
    "dora": ({"use_dora": True}, MERGED),
    "rslora": ({"use_rslora": True}, MERGED),
    "pissa": ({"init_lora_weights": "pissa"}, MERGED),
    "olora": ({"init_lora_weights": "olora"}, MERGED),
    "patterns": ({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}}, MERGED),
    "regex": ({"target_modules": r".*\.1\..*(k|o)_proj"}, MERGED),
    "all linear": ({"target_modules": "all-linear"}, MERGED),
    "bias": ({"bias": "all"}, MERGED),
    "bias of its own": ({"lora_bias": True}, BESIDE),
    "some layers": ({"layers_to_transform": [1]}, MERGED),
    "head": ({"target_modules": ["lm_head"]}, MERGED),
    "embedding": ({"target_modules": ["embed_tokens"]}, MERGED),
    "saved modules": ({"modules_to_save": ["lm_head", "embed_tokens"]}, MERGED),
    "tokens": ({"trainable_token_indices": [7, 14, 21]}, MERGED),
    "replication": ({"layer_replication": [[0, 2], [1, 2]]}, MERGED),
    "activated": ({"alora_invocation_tokens": [5, 6]}, REFUSED),
}
OTHERS = {
    "AdaLoraConfig": ({"total_step": 10, "init_r": 4, **TARGETS}, MERGED),
    "IA3Config": ({"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}, MERGED),
    "LoHaConfig": ({"r": 4, **TARGETS}, MERGED),
    "LoKrConfig": ({"r": 4, **TARGETS}, MERGED),
    "OFTConfig": ({"oft_block_size": 8, **TARGETS}, MERGED),
    "BOFTConfig": ({"boft_block_size": 8, **TARGETS}, MERGED),
    "HRAConfig": ({"r": 4, **TARGETS}, MERGED),
    "LNTuningConfig": ({"target_modules": ["input_layernorm"]}, MERGED),
    "VeraConfig": ({"r": 4, "target_modules": ["q_proj"]}, MERGED),
    "FourierFTConfig": ({"n_frequency": 50, **TARGETS}, MERGED),
    "MissConfig": ({"r": 4, **TARGETS}, MERGED),
    "VBLoRAConfig": ({"r": 4, "num_vectors": 8, "vector_length": 16, "topk": 2, **TARGETS}, MERGED),
    "RandLoraConfig": ({"r": 4, "target_modules": ["q_proj"]}, MERGED),
    "ShiraConfig": ({"r": 4, **TARGETS}, MERGED),
    "C3AConfig": ({"block_size": 16, **TARGETS}, MERGED),
    "TrainableTokensConfig": ({"token_indices": [7, 14, 21]}, MERGED),
    "HiraConfig": (TARGETS, MERGED),
    "DeloraConfig": (TARGETS, MERGED),
    "OSFConfig": (TARGETS, MERGED),
    "GraloraConfig": (TARGETS, MERGED),
    "TinyLoraConfig": (TARGETS, MERGED),
    "PsoftConfig": (TARGETS, MERGED),
    "PeanutConfig": (TARGETS, MERGED),
    "FrodConfig": (TARGETS, MERGED),
    "PveraConfig": (TARGETS, MERGED),
    "GloraConfig": (TARGETS, MERGED),
    "UniLoraConfig": (TARGETS, MERGED),
    "BeftConfig": (TARGETS, BESIDE),
    "LilyConfig": (TARGETS, BESIDE),
    "PromptTuningConfig": ({"num_virtual_tokens": 4}, REFUSED),
    "PrefixTuningConfig": ({"num_virtual_tokens": 4}, REFUSED),
    "PromptEncoderConfig": ({"num_virtual_tokens": 4, "encoder_hidden_size": 8}, REFUSED),
    "AdaptionPromptConfig": ({"adapter_len": 4, "adapter_layers": 1}, REFUSED),
    "PolyConfig": ({"r": 4, "n_tasks": 1, "n_skills": 1, "n_splits": 1, **TARGETS}, REFUSED),
}
KINDS = [
    *(("LoraConfig", {"r": 4, **TARGETS, **options}, outcome) for options, outcome in LORA.values()),
    *((name, options, outcome) for name, (options, outcome) in OTHERS.items()),
]


@pytest.mark.filterwarnings("ignore")  # PEFT says what a kind is good for
@pytest.mark.parametrize(("kind", "options", "outcome"), KINDS, ids=[*LORA, *OTHERS])
def test_an_adapter_of_this_kind_says_what_peft_says(base, tmp_path, kind, options, outcome):
    import peft

    folder = tmp_path / "adapter"
    torch.manual_seed(1)
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **options)
    trained = peft.get_peft_model(loads.from_transformers(base), config)
    for parameter in trained.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.1
    trained.save_pretrained(folder)
    if outcome == REFUSED:
        with pytest.raises(ValueError, match=r"is not served: LoRA and what changes"):
            loads.load(base, folder)
        return
    model, peer = loads.load(base, folder), loads.from_peft(base, folder)
    assert loads.off(model, peer) < NEAR
    assert loads.off(model, loads.from_transformers(base)) > 100 * NEAR
    assert loads.is_merged(model) == (outcome == MERGED)
