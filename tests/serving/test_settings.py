"""Settings: the arguments of the KServe quick start, their variables, and what is refused."""

import pytest
from llmserving.settings import from_arguments, from_mapping

VARIABLES = ("BASE_MODEL_DIR", "CHECKPOINT_DIR", "MODEL_NAME", "SERVING_ENGINE", "MAX_LENGTH", "MODEL_DIR")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_documented_variables_name_the_model(monkeypatch):
    monkeypatch.setenv("BASE_MODEL_DIR", "/tmp/llama2-7b")
    monkeypatch.setenv("CHECKPOINT_DIR", "/checkpoint")
    settings = from_mapping({})
    assert (str(settings.model_dir), str(settings.checkpoint_dir)) == ("/tmp/llama2-7b", "/checkpoint")


def test_the_first_example_of_the_quick_start_is_understood():
    settings = from_arguments(["--model_dir=/mnt/models/Llama-2-7b-chat-hf", "--model_name=llama2"])
    assert (str(settings.model_dir), settings.served_name) == ("/mnt/models/Llama-2-7b-chat-hf", "llama2")


def test_the_second_example_of_the_quick_start_is_understood():
    words = "--port 8080 --trust-remote-code --served-model-name qwen --model /mnt/models/Qwen1.5-14B-Chat"
    settings = from_arguments(words.split())
    assert (settings.port, settings.trust_remote_code, settings.served_name) == (8080, True, "qwen")
    assert str(settings.model_dir) == "/mnt/models/Qwen1.5-14B-Chat"


def test_the_third_example_of_the_quick_start_is_understood_with_its_two_words_in_one():
    settings = from_arguments(
        [
            "--model_dir=/mnt/models/Qwen2-72B-Instruct-GPTQ-Int4",
            "--model_name=qwen2-72b",
            "--max_length=6144",
            "--trust-remote-code",
            "--gpu-memory-utilization=0.95",
            "--quantization gptq",
        ]
    )
    assert (settings.max_length, settings.gpu_memory_utilization, settings.quantization) == (
        6144,
        0.95,
        "gptq",
    )


@pytest.mark.parametrize("name", ["max_length", "max-length", "max_model_len", "max-model-len"])
def test_dashes_underscores_and_synonyms_are_the_same_name(name):
    assert from_mapping({"engine": "echo", name: 7}).max_length == 7
    assert from_arguments(["--engine=echo", f"--{name}=7"]).max_length == 7


def test_an_argument_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("MAX_LENGTH", "5")
    assert from_arguments(["--engine", "echo", "--max_length", "6"]).max_length == 6
    assert from_arguments(["--engine", "echo"]).max_length == 5


def test_a_server_without_a_model_says_what_to_set():
    with pytest.raises(ValueError, match="BASE_MODEL_DIR"):
        from_mapping({})


def test_an_unknown_argument_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        from_arguments(["--engine=echo", "--spectulative=1"])
    assert "spectulative" in capsys.readouterr().err


def test_help_shows_defaults_as_they_are_written_and_nothing_of_python(capsys):
    with pytest.raises(SystemExit):
        from_arguments(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("None", "null", "SecretStr", "Path", "{str", "True", "False", "--device str", "NUMBER int"):
        assert word not in shown
    assert "(default: false)" in shown
    assert "(default: 1800)" in shown
    assert "--secret_key TEXT" in shown
    assert "--engine {auto,continuous,generate,vllm,echo}" in shown


def test_the_secret_key_is_never_shown(monkeypatch):
    monkeypatch.setenv("SERVING_SECRET_KEY", "dasdada")
    settings = from_mapping({"engine": "echo"})
    assert "dasdada" not in repr(settings)
    assert settings.secret_key.get_secret_value() == "dasdada"
