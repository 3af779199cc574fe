"""Every architecture of transformers, made tiny, answers as its own `generate` does, on the engine documented."""

import architectures
import pytest
import table
import transformers
from compared import DifferentError, compare, examine

# Those that a batch computed otherwise, those that ended the engine, and as many that it computes right.
OTHERWISE = ("bloom", "codegen", "diffllama", "gpt_neo", "gptj", "mpt", "xglm")
ENDED = ("deepseek_v3", "falcon", "nemotron", "stablelm")
RIGHT = (
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_oss",
    "llama",
    "mistral",
    "mixtral",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
)
OFTEN = OTHERWISE + ENDED + RIGHT
DOCUMENTED = table.documented()


@pytest.mark.parametrize("name", OFTEN)
def test_an_architecture_answers_as_transformers_does_on_its_engine(name, tmp_path):
    assert examine(name, tmp_path).engine == DOCUMENTED[name]


@pytest.mark.models
@pytest.mark.parametrize("name", [name for name in architectures.names() if name not in OFTEN])
def test_any_other_does_or_is_refused_as_documented(name, tmp_path):
    assert examine(name, tmp_path).engine == DOCUMENTED[name]


def test_the_document_names_every_architecture_and_the_version_it_was_tried_with():
    assert sorted(DOCUMENTED) == architectures.names()
    assert f"transformers {transformers.__version__}: " in table.DOCUMENT.read_text(encoding="utf-8")


def test_an_answer_that_differs_is_seen():
    own = [[(5, -0.1), (6, -0.2)]] * 3
    compare(own, own)
    with pytest.raises(DifferentError, match="prompt of 90 tokens"):
        compare([own[0], [(5, -0.1), (7, -0.2)], own[2]], own)
    with pytest.raises(DifferentError, match=r"prompt of 600 tokens: a log-probability is off by 0\.05"):
        compare([own[0], own[1], [(5, -0.1), (6, -0.25)]], own)
