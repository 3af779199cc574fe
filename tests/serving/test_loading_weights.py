"""Whole weights: what is loaded is what was trained, or the start is refused with the names."""

import json
import logging
import re

import loads
import pytest
import tiny
import torch
from llmserving import loading
from llmserving.files import headers, wrappers
from llmserving.settings import from_mapping


@pytest.fixture
def copy(base, tmp_path):
    return loads.copy(base, tmp_path / "copy")


def renamed(folder, change):
    loads.edit_tensors(
        folder / "model.safetensors", lambda tensors: {change(name): each for name, each in tensors.items()}
    )


def without(folder, *parts):
    loads.edit_tensors(
        folder / "model.safetensors",
        lambda tensors: {name: each for name, each in tensors.items() if not any(part in name for part in parts)},
    )


def refused(folder, match, **more):
    with pytest.raises(ValueError, match=match) as caught:
        loads.load(folder, **more)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "wrap",
    [
        "_orig_mod.{}".format,
        "module.{}".format,
        "module._orig_mod.{}".format,
        "_fsdp_wrapped_module.{}".format,
        "base_model.model.{}".format,
        lambda name: name.replace("layers.", "layers._fsdp_wrapped_module.").replace("mlp.", "mlp._orig_mod."),
    ],
)
def test_names_that_a_wrapper_of_the_training_changed_are_loaded_as_they_were(base, copy, wrap):
    renamed(copy, wrap)
    assert loads.off(loads.load(copy), loads.from_transformers(base)) == 0


def test_a_wrapper_that_would_give_two_tensors_one_name_is_left_on():
    assert wrappers.found_in({"a._orig_mod.b": (), "a.b": ()}) == {}
    assert wrappers.found_in({"module.a": (), "b": ()}) == {}


def test_a_layer_that_is_missing_is_named(copy):
    without(copy, "layers.1.mlp")
    refused(copy, r"parameters of the model are missing \(3\): model\.layers\.1\.mlp\.down_proj\.weight")


def test_many_missing_names_are_counted_and_the_first_few_shown(copy):
    without(copy, "layers.1.")
    refused(copy, r"parameters of the model are missing \(9\): .* and 5 more")


def test_weights_without_a_head_are_refused(copy):
    without(copy, "lm_head")
    refused(copy, r"parameters of the model are missing \(1\): lm_head\.weight")


def test_a_reward_model_is_told_from_one_that_continues_text(copy):
    renamed(copy, lambda name: name.replace("lm_head", "score"))
    refused(copy, r"lm_head\.weight; tensors fit nowhere in the model \(1\): score\.weight; it is a classifier")


def test_a_configuration_with_more_layers_than_the_weights_is_refused(copy):
    loads.edit_json(copy / "config.json", num_hidden_layers=3)
    refused(copy, r"parameters of the model are missing \(9\): model\.layers\.2")


def test_a_configuration_with_fewer_layers_than_the_weights_is_refused(copy):
    loads.edit_json(copy / "config.json", num_hidden_layers=1)
    refused(copy, r"tensors fit nowhere in the model \(9\): .*; config\.json says 1 layers, the weights have 2")


def test_biases_that_the_configuration_knows_nothing_of_are_refused(copy):
    loads.edit_tensors(
        copy / "model.safetensors",
        lambda tensors: {**tensors, "model.layers.0.self_attn.q_proj.bias": torch.ones(64)},
    )
    refused(copy, r"tensors fit nowhere in the model \(1\): model\.layers\.0\.self_attn\.q_proj\.bias")


def test_a_prefix_that_nobody_knows_is_named(copy):
    renamed(copy, "wrapped.thing.{}".format)
    refused(copy, r"names begin with 'wrapped\.thing\.' in the file")


def test_an_adapter_that_was_never_merged_is_told_from_whole_weights(copy):
    loads.edit_tensors(
        copy / "model.safetensors",
        lambda tensors: {**tensors, "model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(4, 64)},
    )
    refused(copy, "an adapter is in there that was never merged")


def test_a_vocabulary_of_another_size_than_config_json_says_is_refused_with_both(copy):
    loads.edit_json(copy / "config.json", vocab_size=500)
    refused(copy, r"lm_head\.weight is \[400, 64\] and should be \[500, 64\].*vocabulary of 400: is vocab_size in")


def test_allow_missing_serves_what_is_there_and_says_what_is_not(copy, caplog):
    without(copy, "layers.1.mlp.up_proj")
    with caplog.at_level(logging.WARNING):
        loads.load(copy, allow_missing=True)
    assert "missing (1): model.layers.1.mlp.up_proj.weight;" in caplog.text
    assert "served as it is, with random numbers" in caplog.text


def test_tied_weights_are_stored_once_and_not_missing(base, tmp_path):
    model = tiny.make_model()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "tied")
    assert loads.off(loads.load(tmp_path / "tied"), model) == 0


def test_weights_in_shards_are_loaded_whole_and_a_missing_one_is_named(base, tmp_path):
    folder = tmp_path / "sharded"
    loads.from_transformers(base).save_pretrained(folder, max_shard_size="100KB")
    assert loads.off(loads.load(folder), loads.from_transformers(base)) == 0
    shards = sorted(folder.glob("*.safetensors"))
    shards[1].unlink()
    refused(folder, rf"1 of the {len(shards)} files that model\.safetensors\.index\.json names .*{shards[1].name}")


def test_an_index_of_another_model_is_refused(base, tmp_path):
    folder = tmp_path / "sharded"
    loads.from_transformers(base).save_pretrained(folder, max_shard_size="100KB")
    index = folder / "model.safetensors.index.json"
    said = json.loads(index.read_text())
    said["weight_map"]["model.layers.9.mlp.weight"] = next(iter(said["weight_map"].values()))
    index.write_text(json.dumps(said))
    refused(folder, r"names tensors that its files do not hold \(model\.layers\.9")


def test_a_configuration_that_names_other_files_than_were_checked_is_refused(copy):
    tiny.make_model(seed=9).save_pretrained(copy / "other")
    (copy / "other/model.safetensors").rename(copy / "other.safetensors")
    loads.edit_json(copy / "config.json", transformers_weights="other.safetensors")
    refused(copy, r"config\.json: transformers_weights names other\.safetensors: weights are loaded from model\.")


BROKEN = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    r"empty \(0 bytes\)": b"",
    "an HTML page": b"<!DOCTYPE html><html>Sign in</html>",
    "a pickle of torch.save": b"PK\x03\x04" + bytes(100),
    "cut off in its header": (10_000).to_bytes(8, "little") + b'{"model',
    "not a safetensors file": b"GGUF" + bytes([255]) * 60,
    "its header is no description of tensors": (4).to_bytes(8, "little") + b"oops",
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_file_is_named_with_the_likely_cause(copy, said):
    (copy / "model.safetensors").write_bytes(BROKEN[said])
    refused(copy, f"model.safetensors: {said}")


def test_a_header_of_as_many_bytes_as_pickles_begin_with_is_a_header(base, copy):
    path = copy / "model.safetensors"
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    size = 2**16 + 0x0280
    path.write_bytes(size.to_bytes(8, "little") + content[8:start].ljust(size) + content[start:])
    assert path.read_bytes().startswith(b"\x80\x02")
    assert headers.read(path) == headers.read(base / "model.safetensors")


def test_a_file_that_was_cut_off_says_how_much_is_there(copy):
    path = copy / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1000])
    refused(copy, rf"cut off: {len(content) - 1000} bytes of {len(content)}")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_pointer_in_place_of_a_small_file_is_named(copy, name):
    (copy / name).write_bytes(BROKEN["a Git LFS pointer"])
    refused(copy, rf"{name}: a Git LFS pointer, .*git lfs pull")


def test_weights_without_a_tensor_are_refused(copy):
    loads.edit_tensors(copy / "model.safetensors", lambda _: {})
    refused(copy, "holds no tensor")


def test_what_zero_3_saved_without_gathering_is_refused(copy):
    loads.edit_tensors(copy / "model.safetensors", lambda tensors: {name: torch.empty(0) for name in tensors})
    refused(copy, r"21 of 21 tensors are empty .*ZeRO-3")


def test_an_adapter_beside_whole_weights_is_not_applied_unasked(base, adapter, copy, caplog):
    for path in adapter.iterdir():
        if path.name.startswith("adapter_"):
            (copy / path.name).write_bytes(path.read_bytes())
    with caplog.at_level(logging.INFO):
        model = loads.load(copy)
    assert loads.off(model, loads.from_transformers(base)) == 0
    assert (
        "whole weights and an adapter: the weights are loaded alone; the adapter there is not applied" in caplog.text
    )


def test_an_adapter_beside_whole_weights_that_is_asked_for_is_applied_once(base, adapter, copy, caplog):
    for path in adapter.iterdir():
        if path.name.startswith("adapter_"):
            (copy / path.name).write_bytes(path.read_bytes())
    with caplog.at_level(logging.INFO):
        model = loads.load(copy, copy)
    assert loads.off(model, loads.from_peft(base, adapter)) < 1e-3
    assert f"{copy} is applied to it, once" in caplog.text


# Encoders


def encoder(folder, **more):
    return loading.load_encoder(folder, from_mapping({"engine": "echo", **more}))


@pytest.fixture
def bert(tmp_path):
    """Return a folder as BERT's own is published: the encoder under `bert.`, with a head that was trained on top."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertForMaskedLM(BertConfig(vocab_size=100, **size)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_an_encoders_head_is_not_read_and_named_in_the_log(bert, caplog):
    from transformers import AutoModel

    with caplog.at_level(logging.INFO):
        model = encoder(bert)
    ids = torch.arange(20).unsqueeze(0)
    peer = AutoModel.from_pretrained(bert).eval()
    with torch.inference_mode():
        assert torch.equal(model(ids).last_hidden_state, peer(ids).last_hidden_state)
    assert re.search(r"tensors that nothing here needs are not read \(\d\): cls\.predictions", caplog.text)


def test_an_encoder_that_is_not_whole_is_refused(bert):
    without(bert, "layer.1.attention.self.query")
    with pytest.raises(ValueError, match=r"parameters of the model are missing \(2\): encoder\.layer\.1\.attention"):
        encoder(bert)


def test_an_encoder_with_more_layers_than_its_configuration_says_is_refused(bert):
    loads.edit_json(bert / "config.json", num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"config\.json says 1 layers, the weights have 2"):
        encoder(bert)
