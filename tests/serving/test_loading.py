"""Models from folders: the base, a LoRA adapter, a full checkpoint, and what is refused."""

import json
import shutil

import pytest
import tiny
from conftest import here
from llmserving import loading
from llmserving.engines.continuous import ContinuousEngine
from llmserving.engines.generate import GenerateEngine
from llmserving.server import load
from llmserving.settings import from_mapping

GREEDY = {"prompt": "The quick", "temperature": 0, "max_tokens": 20}


def settings(base, **more):
    return from_mapping({"model_dir": base, **more})


@pytest.fixture
def text(serve):
    def answer(**wanted):
        return serve(**wanted).post("/v1/completions", GREEDY).json()["choices"][0]["text"]

    return answer


@pytest.fixture
def copy(base, tmp_path):
    return shutil.copytree(base, tmp_path / "copy")


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_adapter_changes_the_answers(base, adapter, text):
    assert text(model_dir=base) != text(model_dir=base, checkpoint_dir=adapter)


def test_a_merged_adapter_answers_as_peft_does(base, adapter, text):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    ids = tokenizer("The quick", return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=20, do_sample=False)[0][ids.input_ids.shape[1] :]
    assert text(model_dir=base, checkpoint_dir=adapter).startswith(
        tokenizer.decode(out, skip_special_tokens=True).rstrip("\ufffd")
    )


def test_a_full_checkpoint_takes_the_bases_place(base, tmp_path, text):
    tiny.make_model(seed=9).save_pretrained(tmp_path / "full")
    changed = text(model_dir=base, checkpoint_dir=tmp_path / "full")
    assert changed != text(model_dir=base)


def test_a_checkpoint_may_lie_one_folder_deeper_as_ray_train_reports_it(base, adapter, tmp_path, text):
    shutil.copytree(adapter, tmp_path / "checkpoint_000000" / "checkpoint")
    deeper = text(model_dir=base, checkpoint_dir=tmp_path / "checkpoint_000000")
    assert deeper == text(model_dir=base, checkpoint_dir=adapter)


def test_tokens_added_by_fine_tuning_are_made_room_for(base, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    tokenizer = tiny.make_tokenizer()
    tokenizer.add_tokens(["<tool>", "</tool>"])
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    adapter = tmp_path / "adapter"
    get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")).save_pretrained(adapter)
    tokenizer.save_pretrained(adapter)
    server = load(settings(base, checkpoint_dir=adapter))
    server.close()
    assert server.tokenizer.vocabulary_size == 402


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing: no config\.json"):
        loading.find_folders(settings(tmp_path / "nothing"))


def test_a_checkpoint_that_is_none_is_named(base, tmp_path):
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        loading.find_folders(settings(base, checkpoint_dir=tmp_path))


def test_weights_that_are_pickles_are_refused_unless_asked_for(copy):
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="SERVING_ALLOW_PICKLE=1"):
        load(settings(copy))
    load(settings(copy, allow_pickle=True)).close()


def test_an_adapter_that_is_a_pickle_is_refused(base, adapter, tmp_path):
    import torch
    from safetensors.torch import load_file

    copy = shutil.copytree(adapter, tmp_path / "adapter")
    torch.save(load_file(copy / "adapter_model.safetensors"), copy / "adapter_model.bin")
    (copy / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="SERVING_ALLOW_PICKLE"):
        load(settings(base, checkpoint_dir=copy))


def test_code_in_the_models_folder_is_not_run_unless_asked_for(copy):
    edit(copy / "config.json", auto_map={"AutoConfig": "evil.Evil"}, model_type="evil")
    (copy / "evil.py").write_text("raise SystemError('it ran')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(settings(copy))
    with pytest.raises(ValueError, match="SystemError: it ran"):
        load(settings(copy, trust_remote_code=True))


def test_a_quantization_that_the_weights_do_not_have_is_refused(base):
    with pytest.raises(ValueError, match="quantised by None, not by gptq"):
        load(settings(base, quantization="gptq"))


def test_several_gpus_need_the_engine_that_can_split_a_model(base):
    with pytest.raises(ValueError, match="only the vllm engine"):
        load(settings(base, tensor_parallel_size=2))


def test_a_gpu_that_is_not_there_is_said_to_be_missing(base):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: the test is for one without")
    with pytest.raises(RuntimeError, match="torch sees no GPU"):
        load(settings(base, device="cuda:0"))


def test_the_context_can_be_shortened_and_not_stretched(base):
    server = load(settings(base, max_length=100))
    server.close()
    assert server.engine.context_length == 100
    with pytest.raises(ValueError, match="goes to 512"):
        load(settings(base, max_length=1000))


def test_a_model_that_continuous_batching_refuses_is_served_by_generate(base, monkeypatch, serve):
    def refuse(*_):
        raise ValueError("Invalid layer type: linear_attention")

    monkeypatch.setattr(ContinuousEngine, "__init__", refuse)
    running = serve(here(model_dir=base))
    assert isinstance(running.server.engine, GenerateEngine)
    assert running.post("/v1/completions", GREEDY).status_code == 200
    with pytest.raises(ValueError, match="linear_attention"):
        here(model_dir=base, engine="continuous")


def test_the_authors_advice_on_sampling_is_what_a_silent_request_gets(copy, serve):
    edit(copy / "generation_config.json", do_sample=True, temperature=0.01, top_k=1)
    running = serve(model_dir=copy)
    silent = {key: value for key, value in GREEDY.items() if key != "temperature"}
    texts = {running.post("/v1/completions", body).json()["choices"][0]["text"] for body in (silent, silent, GREEDY)}
    assert len(texts) == 1


def test_a_model_without_a_chat_template_says_so_and_still_answers_inference(copy, serve):
    (copy / "chat_template.jinja").unlink()
    running = serve(model_dir=copy)
    messages = [{"role": "user", "content": "hi"}]
    response = running.post("/v1/chat/completions", {"messages": messages})
    assert response.status_code == 400
    assert "SERVING_CHAT_TEMPLATE" in response.json()["error"]["message"]
    assert running.post("/inference", {"input": "hi", "max_tokens": 2}).status_code == 200


def test_a_chat_template_can_be_given(base, tmp_path, serve):
    (tmp_path / "template.jinja").write_text("Q: {{ messages[0]['content'] }} A:")
    running = serve(model_dir=base, chat_template=tmp_path / "template.jinja")
    messages = [{"role": "user", "content": "hi"}]
    ids = running.post("/tokenize", {"messages": messages}).json()["tokens"]
    assert running.post("/detokenize", {"tokens": ids}).json()["prompt"] == "Q: hi A:"


def test_a_template_that_refuses_the_messages_is_a_bad_request(base, tmp_path, serve):
    (tmp_path / "template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    running = serve(model_dir=base, chat_template=tmp_path / "template.jinja")
    response = running.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")
    assert "roles must alternate" in response.json()["error"]["message"]


def test_embeddings_can_come_from_an_encoder_of_their_own(base, copy, serve):
    running = serve(model_dir=base, embedding_model_dir=copy, max_length=None)
    near = running.post("/v1/embeddings", {"input": ["你好", "你好"]}).json()["data"]
    assert near[0]["embedding"] == near[1]["embedding"]
    assert running.server.embedder.tokenizer is not running.server.tokenizer
