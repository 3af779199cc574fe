"""`rayproxy deploy --model-files`: what the model server would refuse at its start is refused before that."""

import json

import pytest

from rayproxy.__main__ import main

BASE, CHECKPOINT = "/models/base", "/models/checkpoint"


def tensors(**shapes):
    """Return a safetensors file of zeros."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + bytes(end)


@pytest.fixture
def place(tmp_path):
    """Return a folder in which an image's paths lie."""
    base, checkpoint = tmp_path / BASE[1:], tmp_path / CHECKPOINT[1:]
    base.mkdir(parents=True)
    checkpoint.mkdir()
    (base / "config.json").write_text('{"model_type": "llama"}')
    (base / "model.safetensors").write_bytes(tensors(weight=(2, 2)))
    (checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA", "task_type": "CAUSAL_LM"}')
    (checkpoint / "adapter_model.safetensors").write_bytes(tensors(lora_A=(1, 2), lora_B=(2, 1)))
    return tmp_path


def serve(place, *more):
    flags = ["--name", "m", "--image", "m:1", "--base-model-dir", BASE, "--checkpoint-dir", CHECKPOINT]
    return main(["deploy", *flags, "--kuberay", "1.7", "--dry-run", "--model-files", str(place), *more])


def test_files_that_are_whole_are_no_reason_to_refuse(place, capsys):
    assert serve(place) == 0
    assert "kind: RayService" in capsys.readouterr().out


def test_what_make_model_context_laid_out_is_found_in_it(place, capsys):
    (place / "models/.made-by-model-context").touch()
    assert serve(place / "models") == 0
    (place / CHECKPOINT[1:] / "adapter_model.safetensors").write_bytes(b"")
    assert serve(place / "models") == 1
    assert "--model-files: " in capsys.readouterr().err


def test_a_checkpoint_that_was_laid_out_and_is_not_served_is_no_slip_that_passes(place, capsys):
    (place / "models/.made-by-model-context").touch()
    flags = ["--name", "m", "--image", "m:1", "--base-model-dir", BASE, "--kuberay", "1.7", "--dry-run"]
    assert main(["deploy", *flags, "--model-files", str(place / "models")]) == 1
    assert "the base model alone would be served: give --checkpoint-dir" in capsys.readouterr().err


def test_a_folder_base_of_the_image_is_not_what_make_model_context_laid_out(place, capsys):
    (place / "base").mkdir()
    assert serve(place) == 0
    (place / BASE[1:] / "model.safetensors").write_bytes(b"")
    assert serve(place) == 1
    assert f"{place}{BASE}/model.safetensors: empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("models/base/config.json", None, "models/base: no config.json"),
        ("models/base/model.safetensors", None, "models/base: no model.safetensors"),
        ("models/base/model.safetensors", b"", "model.safetensors: empty (0 bytes)"),
        ("models/base/model.safetensors", tensors(weight=(2, 2))[:-1], "model.safetensors: cut off"),
        ("models/base/model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("models/base/model.safetensors", tensors(weight=(0,)), "1 of 1 tensors are empty (weight)"),
        ("models/checkpoint/adapter_model.safetensors", tensors(), "holds no tensor"),
        ("models/checkpoint/adapter_config.json", b'{"peft_type": "P_TUNING"}', "P_TUNING is not served"),
        ("models/checkpoint/adapter_config.json", b"[]", "adapter_config.json: a list, not an object"),
        ("models/checkpoint/adapter_config.json", b"[" * 100_000, "adapter_config.json: not JSON"),
        ("models/checkpoint/adapter_config.json", b"{}", "does not say what kind of adapter it is"),
        ("models/checkpoint/adapter_config.json", None, "neither adapter_config.json (LoRA) nor config.json"),
    ],
)
def test_files_that_the_server_would_refuse_are_refused_with_the_same_words(place, capsys, name, content, said):
    if content is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(content)
    assert serve(place) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "--model-files: " in shown.err
    assert said in shown.err


def test_pickles_are_taken_where_the_server_is_told_to_take_them(place):
    (place / "models/base/model.safetensors").rename(place / "models/base/pytorch_model.bin")
    assert serve(place) == 1
    assert serve(place, "--env", "SERVING_ALLOW_PICKLE=1") == 0
