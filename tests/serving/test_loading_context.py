"""The longest context, and the authors' advice: as the model's own files have it."""

import dataclasses
import json

import loads
import pytest
from llmserving import loading
from llmserving.engines.base import Vocabulary
from llmserving.engines.vocabulary import check_suppressed
from llmserving.files.folders import Folders
from llmserving.loading import generation_config
from llmserving.loading.context import model_length
from llmserving.settings import from_mapping

# Fields of transformers' GenerationConfig that change no words: lengths and times, caches, drafts, what is returned,
# what beams alone or encoder-decoder models alone read, and what does not touch the choice.
CHANGE_NO_WORDS = {
    *("max_length", "max_new_tokens", "max_time", "num_return_sequences"),
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "low_memory"),
    *("use_mtp", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "speculation_type"),
    *("assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind", "assistant_ensemble_weight"),
    *("target_lookbehind", "prompt_lookup_num_tokens", "max_matching_ngram_size"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    *("early_stopping", "length_penalty", "diversity_penalty", "decoder_start_token_id"),
    *("renormalize_logits", "remove_invalid_values", "pad_token_id", "bos_token_id", "transformers_version"),
    *("compile_config", "disable_compile", "continuous_batching_config"),
}
QWEN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


def length(**config):
    """Return the context of a configuration as transformers reads it from its file."""
    from transformers import AutoConfig

    kind = config.pop("model_type", "llama")
    return model_length(AutoConfig.for_model(kind, **config).get_text_config().to_dict())


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        (None, 128),
        ({"rope_type": "default"}, 128),
        ({"rope_type": "linear", "factor": 2.0}, 256),
        ({"rope_type": "dynamic", "factor": 2.0}, 256),
        (QWEN, 512),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 256),
        ({"rope_type": "yarn", "factor": 4.0}, 512),
        (
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 32},
            128,
        ),
    ],
    ids=str,
)  # fmt: skip
def test_the_factor_of_rope_scaling_counts_as_vllm_counts_it(rope, expected):
    assert length(max_position_embeddings=128, rope_scaling=rope) == expected


def test_a_longrope_model_says_its_scaled_length_itself():
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 16, "long_factor": [2.0] * 16, "factor": 8.0,
            "original_max_position_embeddings": 64}  # fmt: skip
    config = {"max_position_embeddings": 512, "hidden_size": 64, "num_attention_heads": 2, "pad_token_id": 0}
    assert length(model_type="phi3", rope_scaling=rope, original_max_position_embeddings=64, **config) == 512


def test_gemma_3_says_its_scaled_length_itself():
    text = {"max_position_embeddings": 1024, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert length(model_type="gemma3_text", **text) == 1024


def test_other_names_for_the_same_thing_are_known():
    assert length(model_type="gpt2", n_positions=96) == 96
    assert model_length({"seq_length": 77}) == 77
    assert model_length({"max_position_embeddings": None}) == 0
    assert model_length({}) == 0


def served_length(folder, **more):
    settings = from_mapping({"model_dir": folder, **more})
    return loading.context_length(loading.read_config(settings, loading.find_folders(settings)), settings)


def test_the_qwen_recipe_gives_the_context_that_it_promises(base, tmp_path):
    folder = loads.copy(base, tmp_path / "yarn")
    loads.edit_json(folder / "config.json", max_position_embeddings=128, rope_parameters=None, rope_scaling=QWEN)
    assert served_length(folder) == 512
    assert served_length(folder, max_length=512) == 512
    assert served_length(folder, max_length=100) == 100
    with pytest.raises(ValueError, match=r"max_length 513: the model goes to 512 tokens .*times the factor"):
        served_length(folder, max_length=513)


def test_an_answer_beyond_the_unscaled_length_is_transformers_own(base, tmp_path, serve):
    import torch

    folder = loads.copy(base, tmp_path / "yarn")
    loads.edit_json(folder / "config.json", max_position_embeddings=128, rope_parameters=None, rope_scaling=QWEN)
    running = serve(model_dir=folder)
    prompt = list(range(7, 207))
    body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, "logprobs": 0}
    served = running.post("/v1/completions", body).json()["choices"][0]["logprobs"]["token_logprobs"]
    out = loads.from_transformers(folder).generate(
        torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0,
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert served == pytest.approx([score.log_softmax(-1).max().item() for score in out.scores], abs=1e-3)


# Encoders


@pytest.mark.parametrize(("kind", "expected"), [("Bert", 64), ("Roberta", 62), ("MPNet", 62), ("DistilBert", 64)])
def test_an_encoder_takes_the_longest_text_that_it_has_positions_for(tmp_path, kind, expected):
    import torch
    import transformers

    size = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "max_position_embeddings": 64}
    if kind == "DistilBert":
        size = {
            "vocab_size": 100,
            "dim": 32,
            "hidden_dim": 64,
            "n_layers": 1,
            "n_heads": 2,
            "max_position_embeddings": 64,
        }
    getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**size)).save_pretrained(tmp_path)
    model = loading.load_encoder(tmp_path, from_mapping({"engine": "echo"}))
    assert loading.encoder_length(model) == expected
    with torch.inference_mode():
        model(input_ids=torch.full((1, expected), 7))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, expected + 1), 7))


def test_the_length_that_is_asked_of_the_model_is_not_asked_of_the_encoder(base, tmp_path, serve):
    shorter = loads.copy(base, tmp_path / "encoder")
    loads.edit_json(shorter / "config.json", max_position_embeddings=64)
    running = serve(model_dir=base, embedding_model_dir=shorter, max_length=512, engine="generate")
    long = running.post("/v1/embeddings", {"input": list(range(7, 72))})
    assert (long.status_code, running.post("/v1/embeddings", {"input": list(range(7, 71))}).status_code) == (400, 200)


# generation_config.json


@pytest.fixture
def advised(base, tmp_path):
    folder = loads.copy(base, tmp_path / "model")

    def advise(said):
        (folder / "generation_config.json").write_text(said if isinstance(said, str) else json.dumps(said))
        return loading.read_advice(Folders(folder, None, (folder,)))

    return advise


@pytest.mark.parametrize(
    ("said", "sampling"),
    [
        ({}, {}),
        ({"temperature": 0.6, "top_p": 0.9, "top_k": 20}, {"temperature": 0.6, "top_p": 0.9, "top_k": 20}),
        ({"temperature": None, "top_k": None, "do_sample": None}, {}),
        ({"do_sample": False, "temperature": 0.6}, {"temperature": 0.0}),
        ({"top_k": 20.0}, {"top_k": 20}),
        ({"top_k": -1}, {"top_k": -1}),
        ({"top_k": 10**400}, {"top_k": 10**400}),
        ({"num_return_sequences": 2, "num_beams": -3, "cache_implementation": 7, "max_length": "no"}, {}),
        (
            {"repetition_penalty": 1.05, "min_p": 0, "unknown": {"nested": []}},
            {"repetition_penalty": 1.05, "min_p": 0},
        ),
    ],
    ids=str,
)
def test_the_advice_is_read_field_by_field(advised, said, sampling):
    assert advised(said).sampling == sampling


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ({}, set()),
        ({"eos_token_id": None}, set()),
        ({"eos_token_id": 2}, {2}),
        ({"eos_token_id": [2, 4]}, {2, 4}),
        ({"eos_token_id": [[2, 4], [5]]}, {2, 4, 5}),
        ({"eos_token_id": [2, None]}, {2}),
    ],
    ids=str,
)
def test_the_ids_that_end_an_answer_come_as_one_as_several_or_nested(advised, said, ids):
    assert advised(said).stop_ids == ids


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ({}, set()),
        ({"suppress_tokens": None, "bad_words_ids": None}, set()),
        ({"suppress_tokens": []}, set()),
        ({"suppress_tokens": [258883, 258882]}, {258883, 258882}),
        ({"bad_words_ids": [[7], [8, 9]]}, {7}),
        ({"suppress_tokens": [5], "bad_words_ids": [[7], [2]], "eos_token_id": [2, 4]}, {5, 7}),
    ],
    ids=str,
)
def test_the_tokens_that_the_authors_forbid_are_known(advised, said, ids):
    assert advised(said).suppressed == ids


def test_a_model_whose_authors_forbid_more_tokens_than_the_engine_can_is_refused_with_their_number():
    some = Vocabulary(9, 9, biased=3)
    check_suppressed({1, 2, 3, 258883}, some, "vllm")
    check_suppressed(range(9), Vocabulary(9, 9), "continuous")
    with pytest.raises(ValueError, match=r"engine vllm: generation_config\.json forbids 4 tokens .* can forbid 3"):
        check_suppressed({1, 2, 3, 4}, some, "vllm")
    with pytest.raises(ValueError, match=r"engine vllm: config\.json forbids 4 tokens .* can forbid 3"):
        check_suppressed({1, 2, 3, 4}, some, "vllm", "config.json")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"temperature": 0.6, "suppress_tokens": [5], "bad_words_ids": [[5]], "max_new_tokens": 512}, ()),
        ({"num_beams": 1, "no_repeat_ngram_size": 0, "typical_p": 1.0, "sequence_bias": None, "stop_strings": []}, ()),
        ({"num_beams": 4, "no_repeat_ngram_size": 3}, ("no_repeat_ngram_size", "num_beams")),
        ({"min_new_tokens": 8, "stop_strings": "x"}, ("min_new_tokens", "stop_strings")),
        ({"bad_words_ids": [[7], [8, 9]], "begin_suppress_tokens": [5]}, ("bad_words_ids", "begin_suppress_tokens")),
        ({"watermarking_config": {"bias": 2.5}, "guidance_scale": 1.5}, ("guidance_scale", "watermarking_config")),
    ],
    ids=str,
)
def test_what_the_authors_advise_and_nothing_here_does_is_known_by_name(advised, said, names):
    assert advised(said).unheeded == names


def test_every_field_of_transformers_is_honoured_or_said_or_changes_no_words():
    """A field that a later transformers brings has to be put into one of the three."""
    honoured = {*generation_config.BOUNDS, "do_sample", "eos_token_id", "suppress_tokens"}
    from transformers import GenerationConfig

    fields = set(GenerationConfig().to_dict()) | set(vars(GenerationConfig()))
    known = honoured | generation_config.NEUTRAL.keys() | CHANGE_NO_WORDS
    assert {name for name in fields if not name.startswith("_")} <= known


@pytest.mark.parametrize(
    "said",
    [
        {"suppress_tokens": "7"},
        {"suppress_tokens": [-1]},
        {"suppress_tokens": [1.5]},
        {"bad_words_ids": [["x"]]},
        {"repetition_penalty": 0},
        {"repetition_penalty": 1e-39},
        {"temperature": -1},
        {"temperature": "0.5"},
        {"temperature": True},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": 2.5},
        {"min_p": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 10**400},
        {"top_k": -(10**400)},
        {"eos_token_id": "2"},
        {"eos_token_id": -1},
        {"eos_token_id": True},
    ],
    ids=str,
)
def test_advice_that_no_request_could_give_is_refused_with_its_file_and_field(advised, said):
    with pytest.raises(ValueError, match=rf"generation_config\.json: {next(iter(said))} "):
        advised(said)


@pytest.mark.parametrize("said", ["", "[]", "{", "nonsense"])
def test_advice_that_is_no_object_is_refused_with_its_file(advised, said):
    with pytest.raises(ValueError, match=r"generation_config\.json: "):
        advised(said)


def test_without_a_file_the_ids_are_those_of_the_configuration(base, tmp_path):
    folder = loads.copy(base, tmp_path / "model")
    (folder / "generation_config.json").unlink()
    assert loading.read_advice(Folders(folder, None, (folder,))).stop_ids == {2, 4}
    loads.edit_json(folder / "config.json", eos_token_id=None, text_config={"eos_token_id": 9})
    assert loading.read_advice(Folders(folder, None, (folder,))).stop_ids == {9}


@pytest.mark.parametrize(
    ("top", "text"),
    [
        ({"repetition_penalty": 1.8, "do_sample": True, "temperature": 0.5, "top_k": 7, "top_p": 0.9}, {}),
        ({"suppress_tokens": [244, 7], "bad_words_ids": [[9]], "no_repeat_ngram_size": 2}, {}),
        ({"eos_token_id": None, "temperature": None}, {"eos_token_id": 9, "temperature": 0.5}),
        ({"eos_token_id": 5, "top_k": 7}, {"eos_token_id": 9, "top_k": 8, "suppress_tokens": [3]}),
    ],
    ids=str,
)
def test_without_a_file_the_advice_is_what_transformers_takes_from_the_configuration(tmp_path, top, text):
    from transformers import GenerationConfig

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **top, "text_config": text}))
    peers = GenerationConfig.from_pretrained(tmp_path, config_file_name="config.json", _from_model_config=True)
    peers.save_pretrained(tmp_path / "saved")
    advice, same = (loading.read_advice(Folders(folder, None, (folder,))) for folder in (tmp_path, tmp_path / "saved"))
    assert advice == dataclasses.replace(same, file="config.json")
    assert advice.sampling or advice.suppressed


def test_the_adapters_own_advice_wins(base, adapter, tmp_path):
    folder = loads.copy(adapter, tmp_path / "adapter")
    (folder / "generation_config.json").write_text('{"temperature": 0.3}')
    assert loading.read_advice(Folders(base, folder, (base,))).sampling == {"temperature": 0.3}


def test_a_start_warns_once_and_by_name_of_advice_that_nothing_here_follows(base, tmp_path, serve, caplog):
    folder = loads.copy(base, tmp_path / "model")
    loads.edit_json(folder / "generation_config.json", num_beams=4, no_repeat_ngram_size=3, top_k=5, max_length=20)
    serve(model_dir=folder, engine="generate")
    told = [record.getMessage() for record in caplog.records if "no_repeat_ngram_size" in record.getMessage()]
    assert len(told) == 1
    assert "generation_config.json" in told[0]
    assert "num_beams" in told[0]
    assert not any(name in told[0] for name in ("top_k", "max_length", "eos_token_id"))


def test_a_start_names_the_configuration_where_the_advice_is_in_it(base, tmp_path, serve, caplog):
    folder = loads.copy(base, tmp_path / "model")
    (folder / "generation_config.json").unlink()
    loads.edit_json(folder / "config.json", no_repeat_ngram_size=3)
    serve(model_dir=folder, engine="generate")
    told = [record.getMessage() for record in caplog.records if "no_repeat_ngram_size" in record.getMessage()]
    assert [message.split()[0] for message in told] == ["config.json"]


def test_fields_that_are_not_used_end_no_start(base, tmp_path, serve):
    folder = loads.copy(base, tmp_path / "model")
    said = {"num_return_sequences": 2, "eos_token_id": [[2], [4]], "do_sample": None, "num_beams": 4, "temperature": 0}
    (folder / "generation_config.json").write_text(json.dumps(said))
    running = serve(model_dir=folder)
    assert running.post("/v1/completions", {"prompt": "hi", "max_tokens": 2}).status_code == 200


@pytest.mark.parametrize("engine", ["continuous", "generate"])
def test_an_id_that_ends_answers_and_no_model_has_fails_no_request(base, tmp_path, serve, engine):
    folder = loads.copy(base, tmp_path / "model")
    loads.edit_json(folder / "generation_config.json", eos_token_id=[2, 10**30])
    running = serve(model_dir=folder, engine=engine)
    assert running.post("/v1/completions", {"prompt": "hi", "max_tokens": 2}).status_code == 200
