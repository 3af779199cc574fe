"""Adapters: the model says what PEFT says of the same files, or the start is refused with the names."""

import gc
import logging
import shutil
import weakref
from types import SimpleNamespace

import loads
import pytest
import tiny
import torch
from llmserving.engines import local
from llmserving.engines.budget import TooLittleMemoryError
from llmserving.files import adapters as kinds
from llmserving.loading import adapters, merging
from llmserving.loading import model as of_folders
from llmserving.loading.vocabulary import rows, size_of
from llmserving.settings import from_mapping
from safetensors.torch import load_file

NEAR = 1e-3  # of logits that are some 10 apart


def make_adapter(base, folder, *, tokens=None, tokenizer=None, **options):
    """Write a LoRA adapter whose every number is random."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = loads.from_transformers(base)
    if tokens:
        model.resize_token_embeddings(tokens)
    options = {"target_modules": ["q_proj", "v_proj"], **options}
    config = LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM", **options)
    get_peft_model(model, config).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """Return the folder of a model whose head is its embedding."""
    folder = tmp_path_factory.mktemp("model") / "tied"
    model = tiny.make_model(seed=3)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(adapter, tmp_path):
    return loads.copy(adapter, tmp_path / "adapter")


def renamed(folder, change):
    loads.edit_tensors(
        folder / "adapter_model.safetensors", lambda tensors: {change(name): each for name, each in tensors.items()}
    )


# Merging


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["lm_head"]},
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["lm_head", "embed_tokens"]},
        {"target_modules": ["lm_head"], "ensure_weight_tying": True},
        {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"trainable_token_indices": [5, 6, 7]},
    ],
    ids=str,
)
def test_an_adapter_of_tied_embeddings_is_merged_and_says_what_peft_says(tied, tmp_path, options):
    folder = make_adapter(tied, tmp_path / "adapter", **options)
    model = loads.load(tied, folder)
    assert loads.is_merged(model)
    assert loads.off(model, loads.from_peft(tied, folder)) < NEAR


def test_replicated_layers_are_merged_each_with_its_own_change(base, tmp_path):
    folder = make_adapter(base, tmp_path / "adapter", layer_replication=[[0, 2], [1, 2]])
    model = loads.load(base, folder)
    assert loads.is_merged(model)
    assert len(model.model.layers) == 3
    assert loads.off(model, loads.from_peft(base, folder)) < NEAR


def test_an_adapter_that_merging_would_change_is_served_beside_the_weights(tied, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(adapters, "own_weights", lambda _: None)
    folder = make_adapter(tied, tmp_path / "adapter", target_modules=["lm_head"])
    model = loads.load(tied, folder)
    assert not loads.is_merged(model)
    assert loads.off(model, loads.from_peft(tied, folder)) == 0
    assert "merged, it does not say what it says beside the weights" in caplog.text


def test_an_adapter_that_cannot_be_merged_is_served_beside_the_weights(base, tmp_path, caplog):
    folder = make_adapter(base, tmp_path / "adapter", lora_bias=True)
    with caplog.at_level(logging.INFO):
        model = loads.load(base, folder)
    assert not loads.is_merged(model)
    assert loads.off(model, loads.from_peft(base, folder)) == 0
    assert "cannot be merged" in caplog.text


def test_what_is_served_beside_the_weights_answers_over_http_as_peft_does(base, tmp_path, serve):
    folder = make_adapter(base, tmp_path / "adapter", lora_bias=True)
    running = serve(model_dir=base, checkpoint_dir=folder)
    prompt = [10, 20, 30, 40]
    body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": True, "logprobs": 0}
    served = running.post("/v1/completions", body).json()["choices"][0]["logprobs"]["token_logprobs"]
    peer = loads.from_peft(base, folder)
    out = peer.generate(
        input_ids=torch.tensor([prompt]),
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    expected = [score.log_softmax(-1).max().item() for score in out.scores]
    assert served == pytest.approx(expected, abs=NEAR)


def test_the_first_load_is_gone_before_the_second_begins(base, tmp_path, monkeypatch, caplog):
    """Else an adapter that cannot be merged needs its base's memory twice.

    A model's own code may make circles, which Python's collector alone ends; it does not run by chance here.
    """
    caplog.set_level(logging.WARNING, "llmserving")  # a record would keep what it tells of
    folder = make_adapter(base, tmp_path / "adapter", lora_bias=True)
    loaded, alive = [], []
    load_whole = of_folders.load_whole

    def watched(*given, **how):
        alive.append(sum(each() is not None for each in loaded))
        made = load_whole(*given, **how)
        vars(made)["circle"] = made
        loaded.append(weakref.ref(made))
        return made

    monkeypatch.setattr(of_folders, "load_whole", watched)
    gc.disable()
    try:
        loads.load(base, folder)
    finally:
        gc.enable()
    assert alive == [0, 0]


@pytest.mark.parametrize(
    ("owner", "step"), [("peft.peft_model.PeftModel", "load_adapter"), ("peft.LoraModel", "merge_and_unload")]
)
def test_a_want_of_memory_is_said_to_be_one_and_no_fault_of_the_adapter(base, adapter, monkeypatch, owner, step):
    monkeypatch.setattr(f"{owner}.{step}", lambda *_, **__: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(TooLittleMemoryError, match="not enough memory for the model's weights"):
        local.load_local(from_mapping({"model_dir": base, "checkpoint_dir": adapter}))


def test_an_adapter_whose_numbers_are_none_is_refused_with_that(base, copy):
    loads.edit_tensors(
        copy / "adapter_model.safetensors", lambda tensors: {name: each * torch.nan for name, each in tensors.items()}
    )
    with pytest.raises(ValueError, match=rf"{copy}: with it the model's logits are not numbers"):
        loads.load(base, copy)


@pytest.mark.parametrize("content", [b"no pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR.", b""])
def test_a_pickle_of_anything_but_tensors_is_refused_with_its_file(base, copy, content):
    (copy / "adapter_model.safetensors").unlink()
    (copy / "adapter_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"adapter_model\.bin: no pickle of tensors: "):
        loads.load(base, copy, allow_pickle=True)


def test_an_adapter_that_changes_nothing_is_told_of_in_the_log(base, adapter, tmp_path, caplog):
    """As it is saved before the first step of its training, or by a process that held none of its weights."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(loads.from_transformers(base), config).save_pretrained(tmp_path / "untrained")
    loads.load(base, adapter)
    assert "changes nothing" not in caplog.text
    loads.load(base, tmp_path / "untrained")
    assert f"{tmp_path / 'untrained'}: it changes nothing that the model says" in caplog.text


def test_a_difference_is_judged_by_what_the_adapter_changes():
    base = torch.zeros(4, 100)
    beside = base + 1
    assert merging.same(beside + 0.05, beside, base, 0.01)
    assert not merging.same(beside + 0.5, beside, base, 0.01)
    assert not merging.same(beside * torch.nan, beside, base, 0.01)
    idle = torch.full((4, 100), 20.0)
    assert merging.same(idle + 0.1, idle, idle, 0.01)
    assert not merging.same(idle + 0.1, idle, idle, 0.001)


@pytest.mark.parametrize("never", [-torch.inf, torch.finfo(torch.float32).min, torch.inf])
def test_tokens_that_a_model_never_says_are_no_measure_and_are_none_in_both(never):
    base = torch.zeros(4, 100)
    base[:, 7] = never
    beside = base + 1
    assert merging.same(beside + 0.05, beside, base, 0.01)
    assert not merging.same(beside + 0.5, beside, base, 0.01)
    assert not merging.same(beside.clamp(-100, 100), beside, base, 0.01)
    assert not merging.same(beside.where(beside.abs() < 100, -beside), beside, base, 0.01)
    assert not merging.same(beside, beside.clamp(-100, 100), base, 0.01)
    assert not merging.same(base.clamp(-1, 1) + 1, beside, base.clamp(-1, 1), 0.01)


def test_an_adapter_of_a_model_that_masks_tokens_is_merged(base, adapter, monkeypatch):
    """As Chameleon's head does with the tokens of images."""
    forward = torch.nn.Linear.forward

    def masked(layer, given):
        said = forward(layer, given)
        return said.index_fill(-1, torch.tensor([7]), -torch.inf) if layer.out_features == 400 else said

    monkeypatch.setattr(torch.nn.Linear, "forward", masked)
    assert loads.is_merged(loads.load(base, adapter))


def test_weights_without_numbers_are_not_the_adapters_fault(base, adapter, tmp_path):
    copy = loads.copy(base, tmp_path / "broken")
    loads.edit_tensors(
        copy / "model.safetensors",
        lambda tensors: {name: each * torch.nan if "layers.1.mlp" in name else each for name, each in tensors.items()},
    )
    with pytest.raises(ValueError, match=r"broken: the model's logits are not numbers"):
        loads.load(copy, adapter)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("strength", [0.002, 0.05])
def test_what_half_precision_rounds_is_no_reason_against_merging(tmp_path, dtype, strength):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8}
    LlamaForCausalLM(LlamaConfig(vocab_size=400, **size, initializer_range=0.05)).save_pretrained(tmp_path / "base")
    options = {"r": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    trained = get_peft_model(loads.from_transformers(tmp_path / "base"), LoraConfig(**options))
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) * strength
    trained.save_pretrained(tmp_path / "adapter")
    assert loads.is_merged(loads.load(tmp_path / "base", tmp_path / "adapter", dtype=dtype))


# What is not whole, or not this model's


@pytest.mark.parametrize(
    "wrap",
    [
        "_orig_mod.{}".format,
        "module.{}".format,
        "base_model._orig_mod.{}".format,
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.replace("layers.", "layers._fsdp_wrapped_module."),
    ],
)
def test_names_that_a_wrapper_of_the_training_changed_are_taken_as_they_were(base, adapter, copy, wrap):
    renamed(copy, lambda name: wrap(name).replace("base_model._orig_mod.base_model", "base_model._orig_mod"))
    assert loads.off(loads.load(base, copy), loads.from_peft(base, adapter)) < NEAR


def test_an_adapter_without_a_tensor_is_refused(base, copy):
    loads.edit_tensors(copy / "adapter_model.safetensors", lambda _: {})
    with pytest.raises(ValueError, match="holds no tensor"):
        loads.load(base, copy)


def test_an_adapter_that_lacks_a_layer_is_refused(base, copy):
    loads.edit_tensors(
        copy / "adapter_model.safetensors",
        lambda tensors: {name: each for name, each in tensors.items() if "layers.1." not in name},
    )
    with pytest.raises(ValueError, match=r"missing \(4\): base_model\.model\.model\.layers\.1\.self_attn"):
        loads.load(base, copy)


def test_an_adapter_with_layers_that_the_model_does_not_have_is_refused(base, copy):
    loads.edit_tensors(
        copy / "adapter_model.safetensors",
        lambda tensors: tensors | {name.replace("layers.1.", "layers.7."): each + 1 for name, each in tensors.items()},
    )
    with pytest.raises(ValueError, match=r"fit nowhere in the model \(4\): base_model\.model\.model\.layers\.7"):
        loads.load(base, copy)


def test_an_adapter_of_a_model_of_another_width_is_refused(base, copy):
    loads.edit_tensors(
        copy / "adapter_model.safetensors",
        lambda tensors: {name: each.repeat(2, 2) for name, each in tensors.items()},
    )
    with pytest.raises(ValueError, match="the adapter does not fit the model in"):
        loads.load(base, copy)


def test_a_saved_module_that_is_not_there_is_named(base, tmp_path):
    folder = make_adapter(base, tmp_path / "adapter", modules_to_save=["lm_head"])
    loads.edit_tensors(
        folder / "adapter_model.safetensors",
        lambda tensors: {name: each for name, each in tensors.items() if "lm_head" not in name},
    )
    with pytest.raises(ValueError, match=r"lm_head.* is missing: the adapter was not saved whole"):
        loads.load(base, folder)


@pytest.mark.parametrize(
    "fields",
    [{"peft_type": "P_TUNING"}, {"peft_type": "PREFIX_TUNING"}, {"alora_invocation_tokens": [5, 6]}],
    ids=str,
)
def test_a_kind_that_is_not_served_is_refused_with_those_that_are(base, copy, fields):
    loads.edit_json(copy / "adapter_config.json", **fields)
    with pytest.raises(ValueError, match=r"adapter_config\.json: .* is not served: LoRA and .* are"):
        loads.load(base, copy)


def test_an_adapter_of_a_classifier_is_refused(base, copy):
    loads.edit_json(copy / "adapter_config.json", task_type="SEQ_CLS")
    with pytest.raises(ValueError, match="SEQ_CLS: an adapter that does not continue text"):
        loads.load(base, copy)


def test_an_adapter_configuration_that_names_no_kind_is_refused(base, copy):
    loads.edit_json(copy / "adapter_config.json", peft_type=None)
    with pytest.raises(ValueError, match="does not say what kind of adapter it is"):
        loads.load(base, copy)


# Mixtures of experts, whose adapters were trained with one LoRA for each expert


def make_experts(kind, folder):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_experts=4,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_expert_intermediate_size=24,
        initializer_range=0.3,
        max_position_embeddings=128,
        head_dim=16,
        tie_word_embeddings=False,
    )
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    return folder


def make_expert_adapter(base, folder, projections):
    """Write an adapter as PEFT wrote it where each expert was a module, and return the base with it added by hand."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    weights = load_file(base / "model.safetensors")
    targets = [name for name in weights if any(f"experts.{n}." in name for n in range(4)) and "shared" not in name]
    adapter = {}
    for name in targets:
        tall, wide = weights[name].shape
        a, b = torch.randn(4, wide) * 0.3, torch.randn(tall, 4) * 0.3
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        adapter |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
        weights[name] = weights[name] + b @ a * 2
    folder.mkdir()
    save_file(adapter, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    loads.edit_json(
        folder / "adapter_config.json",
        peft_type="LORA",
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8,
        target_modules=projections,
        bias="none",
    )
    by_hand = loads.copy(base, folder.parent / "by-hand")
    loads.edit_tensors(by_hand / "model.safetensors", lambda _: weights)
    return by_hand


@pytest.mark.parametrize(
    ("kind", "projections"),
    [
        ("Qwen3Moe", ["gate_proj", "up_proj", "down_proj"]),
        ("Mixtral", ["w1", "w2", "w3"]),
    ],
)
def test_an_adapter_of_each_expert_is_what_was_trained(tmp_path, kind, projections):
    base = make_experts(kind, tmp_path / "base")
    by_hand = make_expert_adapter(base, tmp_path / "adapter", projections)
    model = loads.load(base, tmp_path / "adapter")
    assert loads.off(model, loads.from_transformers(by_hand)) < NEAR
    assert loads.off(model, loads.from_transformers(base)) > 100 * NEAR


def test_an_adapter_of_each_expert_that_peft_does_not_take_is_refused(tmp_path):
    base = make_experts("Qwen2Moe", tmp_path / "base")
    make_expert_adapter(base, tmp_path / "adapter", ["gate_proj", "up_proj", "down_proj"])
    with pytest.raises(
        ValueError, match=r"fit nowhere in the model \(\d+\): base_model\.model\.model\.layers\.0\.mlp\.ex"
    ):
        loads.load(base, tmp_path / "adapter")


# The size of the vocabulary


def bigger_tokenizer():
    tokenizer = tiny.make_tokenizer()
    tokenizer.add_tokens(["<tool>", "</tool>"])
    return tokenizer


@pytest.mark.parametrize("tokens", [402, 448, 392])
@pytest.mark.parametrize("with_tokenizer", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["lm_head"]},
        {},
    ],
    ids=str,
)
def test_the_vocabulary_is_as_large_as_the_adapters_own_tensors(base, tmp_path, options, with_tokenizer, tokens):
    tokenizer = bigger_tokenizer() if with_tokenizer else None
    folder = make_adapter(base, tmp_path / "adapter", tokens=tokens, tokenizer=tokenizer, **options)
    ids = torch.arange(0, min(tokens, 400), 7).unsqueeze(0)
    peer, model = loads.from_peft(base, folder, tokens), loads.load(base, folder)
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == tokens
    assert loads.off(model, peer, ids) < NEAR


def test_a_larger_base_is_cut_to_the_adapters_size(tmp_path):
    model = tiny.make_model()
    model.resize_token_embeddings(448)
    model.save_pretrained(tmp_path / "base")
    folder = make_adapter(
        tmp_path / "base", tmp_path / "adapter", tokens=402, modules_to_save=["embed_tokens", "lm_head"]
    )
    assert loads.load(tmp_path / "base", folder).config.vocab_size == 402


def test_sizes_are_read_from_every_kind_of_tensor():
    found = {
        "base_model.model.model.embed_tokens.weight": (402, 64),
        "base_model.model.model.embed_tokens.base_layer.weight": (403, 64),
        "base_model.model.model.embed_tokens.lora_embedding_A": (4, 404),
        "base_model.model.lm_head.modules_to_save.weight": (405, 64),
        "base_model.model.lm_head.lora_B.weight": (406, 4),
        "base_model.model.lm_head.lora_A.weight": (4, 64),
        "base_model.model.other_head.weight": (9, 64),
    }
    assert rows(found, "embed_tokens", "lm_head") == {402, 403, 404, 405, 406}


def test_the_size_of_a_vocabulary_is_read_from_layers_that_were_quantised_too():
    packed = torch.zeros(50, 8)
    assert size_of(torch.nn.Embedding(400, 8)) == 400
    assert size_of(SimpleNamespace(out_features=400, weight=packed)) == 400
    assert size_of(SimpleNamespace(weight=packed)) == 50
    model = SimpleNamespace(
        get_input_embeddings=lambda: SimpleNamespace(num_embeddings=400, weight=packed), device="cpu"
    )
    assert merging.probe(model, []).max() == 399


def test_an_adapter_whose_tensors_do_not_agree_is_refused(base, tmp_path):
    folder = make_adapter(base, tmp_path / "adapter", modules_to_save=["embed_tokens", "lm_head"])
    loads.edit_tensors(
        folder / "adapter_model.safetensors",
        lambda tensors: {name: each[:398] if "lm_head" in name else each for name, each in tensors.items()},
    )
    with pytest.raises(ValueError, match=r"vocabularies of different sizes: \[398, 400\]"):
        loads.load(base, folder)


def test_a_saved_module_may_have_its_older_name(base, tmp_path):
    folder = make_adapter(base, tmp_path / "adapter", modules_to_save=["lm_head"])
    peer = loads.from_peft(base, folder)
    renamed(folder, lambda name: name.replace("lm_head.weight", "lm_head.modules_to_save.weight"))
    assert loads.off(loads.load(base, folder), peer) < NEAR


def test_the_kinds_that_are_refused_are_kinds_that_peft_has():
    from peft import PeftType

    assert {kind.value for kind in PeftType} >= kinds.BESIDE_THE_LAYERS


def test_an_adapter_in_a_pickle_is_loaded_where_that_is_asked_for(base, adapter, copy):
    torch.save(load_file(copy / "adapter_model.safetensors"), copy / "adapter_model.bin")
    (copy / "adapter_model.safetensors").unlink()
    model = loads.load(base, copy, allow_pickle=True)
    assert loads.off(model, loads.from_peft(base, adapter)) < NEAR
    shutil.rmtree(copy)


def test_the_largest_rank_is_found_in_the_patterns_too():
    assert kinds.largest_rank({"r": 8}) == 8
    assert kinds.largest_rank({"r": 8, "rank_pattern": {"q_proj": 256, "v_proj": 4}}) == 256
    assert kinds.largest_rank({"peft_type": "IA3", "rank_pattern": None}) == 0
