"""An encoder makes vectors as its authors do, or the start is refused.

What a folder says of it is written as Sentence Transformers writes it: `modules.json`, and the fields of its Pooling
before version 5.4 and since.
"""

import asyncio
import contextlib
import copy
import gc
import json
import os
import signal
import threading
import weakref
from dataclasses import replace

import loads
import pytest
import tiny
import torch
from llmserving.engines.core_client import RemoteEngine
from llmserving.engines.encoder import load_encoder, own_encoder
from llmserving.files import sentences
from llmserving.settings import from_mapping

IDS = list(range(5, 45))
OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return the folder of an encoder that says nothing of pooling."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("model") / "bert"
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=400, max_position_embeddings=64, **size)).save_pretrained(folder)
    tiny.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(plain, tmp_path):
    return loads.copy(plain, tmp_path / "bert")


def say(folder, config, *kinds, at=OLD):
    """Write into a folder what its vectors are made by."""
    kinds = kinds or ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": place, "name": str(place), "path": f"{place}_{kind}" if place else "", "type": f"{at}.{kind}"}
        for place, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 32, **config}))


def write(folder, name, **fields):
    (folder / name).write_text(json.dumps(fields))


def encoder(folder):
    return load_encoder(from_mapping({"engine": "echo", "embedding_model_dir": folder}))


BY_HAND = {
    "mean": lambda hidden: hidden.sum(0) / len(hidden),
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: hidden.max(0).values,
    "lasttoken": lambda hidden: hidden[len(hidden) - 1],
    "weightedmean": lambda hidden: sum((place + 1) * each for place, each in enumerate(hidden)),
}


@torch.inference_mode()
def expected(folder, mode):
    from transformers import AutoModel

    vector = BY_HAND[mode](AutoModel.from_pretrained(folder).eval()(torch.tensor([IDS])).last_hidden_state[0])
    return pytest.approx((vector / vector.norm()).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}, "max"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "lasttoken"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "lasttoken"),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, "mean"),
        ({}, "mean"),
    ],
    ids=str,
)
def test_a_vector_is_made_as_its_folder_says(folder, said, mode):
    say(folder, said, at=NEW if "pooling_mode" in said else OLD)
    assert encoder(folder).vector(IDS) == expected(folder, mode)


def test_a_folder_that_does_not_say_has_the_mean(plain):
    assert encoder(plain).vector(IDS) == expected(plain, "mean")


class Prompt(list):
    """A prompt whose end is seen."""


def test_a_prompt_that_waits_goes_with_its_caller(plain):
    made, over = encoder(plain), threading.Event()
    made._thread.submit(over.wait, 60)

    async def given_up():
        prompt = Prompt(IDS)
        task = asyncio.create_task(made.embed([prompt]))
        await asyncio.sleep(0)
        assert made._thread._work_queue.qsize() == 1
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return weakref.ref(prompt)

    try:
        prompt = asyncio.run(given_up())
        gc.collect()
        assert made._thread._work_queue.qsize() == 1
        assert prompt() is None
    finally:
        over.set()


def test_what_a_folder_says_is_done_over_http(base, folder, serve):
    say(folder, {"pooling_mode": "cls"})
    running = serve(model_dir=base, embedding_model_dir=folder, engine="generate")
    answer = running.post("/v1/embeddings", {"input": IDS}).json()
    assert answer["data"][0]["embedding"] == expected(folder, "cls")


@pytest.mark.parametrize(
    ("config", "kinds", "said"),
    [
        ({"pooling_mode": ["cls", "mean"]}, (), r"1_Pooling/config\.json: pooling_mode \['cls', 'mean'\] is not serv"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, (), r"\['cls', 'max'\] is not served"),
        ({"pooling_mode": "attention"}, (), "pooling_mode 'attention' is not served: one of mean, cls, max"),
        ({}, ("Transformer", "Pooling", "Dense"), r"modules\.json: what makes its vectors is .*, Dense: served"),
        ({}, ("StaticEmbedding",), "StaticEmbedding: served are Transformer, Pooling, Normalize"),
        ({}, ("Transformer",), "vectors is Transformer: served are Transformer, Pooling, Normalize"),
    ],
    ids=str,
)
def test_a_vector_that_is_made_otherwise_is_refused_with_what_is_served(folder, config, kinds, said):
    say(folder, config, *kinds)
    with pytest.raises(ValueError, match=said):
        encoder(folder)


def test_a_text_is_prepared_as_its_folder_says(base, folder, serve):
    """Seen to be what sentence_transformers 6.2.0 makes of the same folder: the prompt, then small letters."""
    say(folder, {"pooling_mode": "mean"})
    write(folder, "sentence_bert_config.json", max_seq_length=40, do_lower_case=True)
    prompts = {"query": "Query: ", "document": "Text: "}
    write(folder, "config_sentence_transformers.json", prompts=prompts, default_prompt_name="query")
    running = serve(model_dir=base, embedding_model_dir=folder, engine="generate")
    vectors = [each["embedding"] for each in embedded(running, ["The QUICK Größe", "query: the quick größe"])]
    assert vectors[0] != vectors[1]  # the prompt is the caller's in the second, and stands there twice
    ids = tiny.make_tokenizer().encode("query: the quick größe")
    assert vectors[0] == pytest.approx(embedded(running, ids)[0]["embedding"], abs=1e-6)


def embedded(running, given):
    return running.post("/v1/embeddings", {"input": given}).json()["data"]


@pytest.mark.parametrize(
    ("name", "fields", "most"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 40}, 40),
        ("sentence_xlm-roberta_config.json", {"max_seq_length": 40}, 40),
        ("sentence_bert_config.json", {"max_seq_length": 4000}, 64),
        ("tokenizer_config.json", {"model_max_length": 40}, 40),
        ("tokenizer_config.json", {"model_max_length": 1e30}, 64),
    ],
    ids=str,
)
def test_a_text_is_as_long_as_the_authors_embed_one(folder, name, fields, most):
    say(folder, {})
    (folder / "tokenizer_config.json").unlink()
    write(folder, name, **fields)
    assert encoder(folder).embedding_tokens == most


def test_a_folder_without_modules_has_no_prompt_and_its_own_length(folder):
    write(folder, "sentence_bert_config.json", max_seq_length=40, do_lower_case=True)
    assert sentences.read(folder) == sentences.Sentences()


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("config_sentence_transformers.json", {"default_prompt_name": "queri"}, "'queri' is not among its prompts"),
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "Query: "}, "default_prompt_name": "query"},
            r"bert: its prompt 'Query: ' is no part of the vector \(include_prompt\)",
        ),
        ("sentence_bert_config.json", {"modality_config": {"message": {}}}, "modality_config has None for a text"),
    ],
    ids=str,
)
def test_a_text_that_is_prepared_otherwise_refuses_the_start(folder, name, fields, said):
    say(folder, {"include_prompt": False})
    write(folder, name, **fields)
    with pytest.raises(ValueError, match=said):
        encoder(folder)


def test_a_model_in_a_folder_of_its_own_is_refused_with_what_to_do(folder):
    (folder / "modules.json").write_text(
        json.dumps(
            [{"type": f"{OLD}.Transformer", "path": "0_Transformer"}, {"type": f"{OLD}.Pooling", "path": "1_Pooling"}]
        )
    )
    with pytest.raises(ValueError, match=r"modules\.json: its model lies in 0_Transformer: move what is there"):
        encoder(folder)


@pytest.mark.parametrize("content", ["{", "7", "[7]", '[{"type": 7, "path": ""}]', '[{"type": "a.Pooling"}]', "null"])
def test_modules_that_cannot_be_read_are_refused_with_their_file(folder, content):
    (folder / "modules.json").write_text(content)
    with pytest.raises(ValueError, match=r"modules\.json: "):
        sentences.read(folder)


def test_an_encoder_that_wants_more_than_a_text_refuses_the_start(tmp_path):
    """Every request would be answered 500, by a server that says that it is ready."""
    from transformers import T5Config, T5Model

    size = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    T5Model(T5Config(vocab_size=400, **size)).save_pretrained(tmp_path / "t5")
    with pytest.raises(ValueError, match=r"t5: it does not embed a short text: ValueError: "):
        encoder(tmp_path / "t5")


def test_an_encoder_whose_numbers_are_none_refuses_the_start(folder):
    loads.edit_tensors(
        folder / "model.safetensors",
        lambda tensors: {name: each * torch.nan if "layer.1" in name else each for name, each in tensors.items()},
    )
    with pytest.raises(ValueError, match=r"bert: it does not embed a short text: .*NaN or infinite"):
        encoder(folder)


def test_vectors_of_another_length_are_refused_before_any_is_made(base, plain, serve):
    running = serve(model_dir=base, embedding_model_dir=plain, engine="generate")
    assert running.post("/v1/embeddings", {"input": IDS, "dimensions": 32}).status_code == 200
    os.kill(running.server.engine._process.pid, signal.SIGSTOP)
    refused = running.post("/v1/embeddings", {"input": [IDS] * 256, "dimensions": 31})
    os.kill(running.server.engine._process.pid, signal.SIGCONT)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "dimensions: this model's vectors have 32"


ROPES = {
    "dynamic": {"factor": 4.0},
    "longrope": {
        "short_factor": [1.0] * 16,
        "long_factor": [3.0] * 16,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


@pytest.mark.parametrize("kind", ROPES)
def test_a_vector_is_that_of_its_text_however_long_the_one_before_was(kind):
    """Dynamic frequencies stay those of the longest text, unless they are forgotten."""
    from transformers import LlamaConfig, LlamaModel

    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    rope = {"rope_type": kind, "rope_theta": 10000.0, **ROPES[kind]}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400, max_position_embeddings=64, rope_parameters=rope, initializer_range=0.3, **size
    )
    model = LlamaModel(config).eval()
    texts = [list(range(5, 5 + length)) for length in (100, 250, 120, 10, 100)]
    alone = [own_encoder(copy.deepcopy(model), 256).vector(text) for text in texts]
    encoder_of_all = own_encoder(model, 256)
    assert [encoder_of_all.vector(text) for text in texts] == [pytest.approx(vector, abs=1e-5) for vector in alone]


def test_a_model_that_shows_no_hidden_states_serves_text_and_no_vectors(base, monkeypatch, caplog):
    monkeypatch.setattr("transformers.LlamaModel.forward", lambda *_, **__: object())
    assert own_encoder(loads.from_transformers(base).base_model, 8) is None
    assert "there is no /v1/embeddings of this model: AttributeError" in caplog.text


def test_an_engine_that_embeds_nothing_is_answered_for(base, serve, monkeypatch):
    loaded = RemoteEngine._loaded
    monkeypatch.setattr(RemoteEngine, "_loaded", lambda engine: replace(loaded(engine), embedding_width=0))
    refused = serve(model_dir=base).post("/v1/embeddings", {"input": "a"})
    assert (refused.status_code, refused.json()["error"]["message"][:18]) == (404, "no embeddings here")
