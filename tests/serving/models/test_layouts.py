"""Published layouts, remade tiny: each answers as transformers does, or is refused with a reason."""

import importlib.util
import logging

import loads
import pytest
import tiny
import torch
import transformers
from llmserving import loading
from llmserving.settings import from_mapping

pytestmark = pytest.mark.models

IDS = torch.arange(3, 43).unsqueeze(0)
TEXT = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SIGHT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
PICTURE = {"image_size": 8, "patch_size": 4, "num_channels": 3}
QWEN_TEXT = TEXT | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}}
QWEN_SIGHT = {"depth": 1, "num_heads": 2, "patch_size": 4}


def make(folder, kind, head="ForCausalLM", **config):
    """Write a model of random numbers as transformers publishes it, with the tests' tokenizer."""
    torch.manual_seed(0)
    made = getattr(transformers, f"{kind}{head}")(getattr(transformers, f"{kind}Config")(**config)).eval()
    made.save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return made


def add(folder, **tensors):
    loads.edit_tensors(folder / "model.safetensors", lambda there: there | tensors)


def answers_as(made, folder, serve, **settings):
    """Assert that the model says what the one that was saved says, over HTTP as well."""
    assert loads.off(loads.load(folder, **settings), made, IDS) < 1e-4
    prompt = IDS[0].tolist()
    body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, "logprobs": 0}
    running = serve(model_dir=folder, **settings)
    served = running.post("/v1/completions", body).json()["choices"][0]["logprobs"]["token_logprobs"]
    out = made.generate(
        IDS, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0,
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert served == pytest.approx([score.log_softmax(-1).max().item() for score in out.scores], abs=1e-3)


SEEING = {
    "Llava": {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": {"model_type": "clip_vision_model", **SIGHT, **PICTURE, "projection_dim": 16},
        "image_token_index": 399,
    },
    "Qwen2VL": {
        "text_config": QWEN_TEXT,
        "vision_config": {**QWEN_SIGHT, "embed_dim": 16, "hidden_size": 32},
        "image_token_id": 399,
        "video_token_id": 398,
    },
    "Qwen2_5_VL": {
        "text_config": QWEN_TEXT,
        "vision_config": {**QWEN_SIGHT, "hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 32},
        "image_token_id": 399,
        "video_token_id": 398,
    },
    "Gemma3": {
        "text_config": {**TEXT, "sliding_window": 16, "query_pre_attn_scalar": 16},
        "vision_config": {"model_type": "siglip_vision_model", **SIGHT, **PICTURE},
        "image_token_index": 399,
        "mm_tokens_per_image": 4,
    },
    "Mistral3": {
        "text_config": {"model_type": "mistral", **TEXT},
        "vision_config": {"model_type": "pixtral", **SIGHT, **PICTURE, "head_dim": 8},
        "image_token_index": 399,
    },
}


@pytest.mark.parametrize("kind", SEEING)
def test_the_text_part_of_a_model_that_sees_images_answers(tmp_path, serve, kind):
    made = make(tmp_path / "model", kind, "ForConditionalGeneration", **SEEING[kind])
    answers_as(made, tmp_path / "model", serve)


def test_a_model_with_layers_that_predict_several_tokens_answers_without_them(tmp_path, serve, caplog):
    made = make(tmp_path / "model", "Llama", **TEXT)
    loads.edit_json(tmp_path / "model" / "config.json", num_nextn_predict_layers=1)
    add(tmp_path / "model", **{"model.layers.2.eh_proj.weight": torch.ones(32, 64), "mtp.fc.weight": torch.ones(2)})
    with caplog.at_level(logging.INFO):
        answers_as(made, tmp_path / "model", serve)
    assert "not read (2): model.layers.2.eh_proj.weight, mtp.fc.weight" in caplog.text


def test_a_policy_with_a_value_head_of_its_training_answers_without_it(tmp_path, serve):
    made = make(tmp_path / "model", "Llama", **TEXT)
    add(tmp_path / "model", **{"v_head.summary.weight": torch.ones(1, 32), "v_head.summary.bias": torch.ones(1)})
    answers_as(made, tmp_path / "model", serve)


def test_the_frequencies_that_older_files_hold_are_made_anew(tmp_path, serve):
    made = make(tmp_path / "model", "Llama", **TEXT)
    add(tmp_path / "model", **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    answers_as(made, tmp_path / "model", serve)


def test_gpt_2_as_it_is_published_has_names_without_a_prefix_and_masks_among_the_weights(tmp_path, serve):
    made = make(
        tmp_path / "model", "GPT2", head="LMHeadModel", vocab_size=400, n_embd=32, n_layer=2, n_head=2,
        n_positions=128, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    loads.edit_tensors(
        tmp_path / "model" / "model.safetensors",
        lambda there: (
            {name.removeprefix("transformer."): each for name, each in there.items()}
            | {"h.0.attn.bias": torch.ones(1, 1, 128, 128)}
        ),
    )
    answers_as(made, tmp_path / "model", serve)


def test_a_tied_model_whose_file_holds_the_head_too_answers(tmp_path, serve):
    made = make(tmp_path / "model", "Qwen2", **TEXT, tie_word_embeddings=True)
    add(tmp_path / "model", **{"lm_head.weight": made.lm_head.weight.detach().clone()})
    answers_as(made, tmp_path / "model", serve)


def test_a_model_in_shards_answers(tmp_path, serve):
    made = make(tmp_path / "model", "Qwen2", **TEXT, tie_word_embeddings=True)
    (tmp_path / "model" / "model.safetensors").unlink()
    made.save_pretrained(tmp_path / "model", max_shard_size="40KB")
    assert len(list((tmp_path / "model").glob("model-*.safetensors"))) > 2
    answers_as(made, tmp_path / "model", serve)


def test_a_mixture_of_experts_answers(tmp_path, serve):
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    made = make(tmp_path / "model", "Qwen3Moe", **TEXT, **experts)
    answers_as(made, tmp_path / "model", serve)


def test_weights_quantised_by_gptq_are_refused_where_their_package_is_not_there(tmp_path):
    if importlib.util.find_spec("gptqmodel"):
        pytest.skip("gptqmodel is installed: the test is for an environment without it")
    make(tmp_path / "model", "Llama", **TEXT)
    quantised = {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": False, "sym": True}
    loads.edit_json(tmp_path / "model" / "config.json", quantization_config=quantised)
    with pytest.raises(ValueError, match=r"model: quantised by gptq, .*(gptqmodel|optimum)"):
        loads.load(tmp_path / "model")


def encode(folder, text):
    settings = from_mapping({"engine": "echo"})
    model = loading.load_encoder(folder, settings)
    with torch.inference_mode():
        return model(input_ids=text, attention_mask=torch.ones_like(text)).last_hidden_state


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("Bert", "ForMaskedLM"),
        ("Bert", "ForSequenceClassification"),
        ("Bert", "Model"),
        ("Roberta", "ForMaskedLM"),
        ("XLMRoberta", "ForTokenClassification"),
        ("DistilBert", "ForMaskedLM"),
        ("MPNet", "ForMaskedLM"),
        ("Electra", "ForPreTraining"),
        ("ModernBert", "ForMaskedLM"),
        ("Albert", "ForMaskedLM"),
        ("DebertaV2", "ForMaskedLM"),
    ],
)
def test_an_encoder_with_the_head_of_its_training_embeds_as_transformers_does(tmp_path, kind, head):
    size = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    if kind == "DistilBert":
        size = {"vocab_size": 400, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    else:
        size |= {"num_attention_heads": 2, "max_position_embeddings": 64, "embedding_size": 32, "pad_token_id": 0}
    make(tmp_path / "model", kind, head, **size)
    peer = transformers.AutoModel.from_pretrained(tmp_path / "model").eval()
    with torch.inference_mode():
        expected = peer(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
    assert torch.equal(encode(tmp_path / "model", IDS), expected)
