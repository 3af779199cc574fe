"""`make model-context`: what the server would refuse at its start is refused before an image is built."""

import os
import subprocess
import sys
from pathlib import Path

import loads
import pytest

TOP = Path(__file__).resolve().parents[2]
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("SERVING_")}


def context(base, checkpoint, output, **variables):
    command = [sys.executable, TOP / "tools" / "model_context.py", "--base-model", base, "--checkpoint", checkpoint]
    return subprocess.run(
        [*command, "--output", output], check=False, capture_output=True, text=True, env={**PLAIN, **variables}
    )


@pytest.fixture
def checkpoint(adapter, tmp_path):
    return loads.copy(adapter, tmp_path / "checkpoint")


def test_a_model_and_its_adapter_are_laid_out(base, checkpoint, tmp_path):
    output = tmp_path / "context"
    for _ in range(2):  # a folder of its own is made anew
        done = context(base, checkpoint, output)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"docker build -f Dockerfile.model -t NAME:TAG {output}\n"
    assert {path.name for path in output.iterdir()} == {
        *("base", "checkpoint", "serving.lock", "inference.zip", ".made-by-model-context")
    }
    weights = "adapter_model.safetensors"
    assert (output / "checkpoint" / weights).read_bytes() == (checkpoint / weights).read_bytes()


def test_an_adapter_that_is_not_the_models_is_refused_with_the_names(base, checkpoint, tmp_path):
    loads.edit_tensors(
        checkpoint / "adapter_model.safetensors",
        lambda tensors: {name.replace("layers.1.", "layers.5."): each for name, each in tensors.items()},
    )
    done = context(base, checkpoint, tmp_path / "context")
    assert done.returncode == 1
    assert f"model_context: {checkpoint}: parameters of the model are missing (4): " in done.stderr
    assert not (tmp_path / "context").exists()


def test_weights_that_are_not_whole_are_refused_with_the_names(base, checkpoint, tmp_path):
    copy = loads.copy(base, tmp_path / "base")
    loads.edit_tensors(
        copy / "model.safetensors",
        lambda tensors: {name: each for name, each in tensors.items() if "norm" not in name},
    )
    done = context(copy, checkpoint, tmp_path / "context")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"model_context: {copy}: parameters of the model are missing (5): " in done.stderr
    assert context(copy, checkpoint, tmp_path / "context", SERVING_ALLOW_MISSING="1").returncode == 0


def test_a_pointer_is_refused_before_anything_is_copied(base, checkpoint, tmp_path):
    (checkpoint / "adapter_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    done = context(base, checkpoint, tmp_path / "context")
    assert done.returncode == 1
    assert "adapter_model.safetensors: a Git LFS pointer" in done.stderr
    assert not (tmp_path / "context").exists()


def test_a_kind_that_is_not_served_is_refused(base, checkpoint, tmp_path):
    loads.edit_json(checkpoint / "adapter_config.json", peft_type="P_TUNING")
    done = context(base, checkpoint, tmp_path / "context")
    assert done.returncode == 1
    assert "peft_type P_TUNING is not served" in done.stderr


def test_a_folder_that_it_did_not_make_is_left_alone(base, checkpoint, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    done = context(base, checkpoint, tmp_path / "mine")
    assert done.returncode == 1
    assert "this program did not make it" in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_model_that_lies_in_the_folder_to_be_made_anew_is_left_alone(base, checkpoint, tmp_path):
    output = tmp_path / "context"
    assert context(base, checkpoint, output).returncode == 0
    done = context(output / "base", checkpoint, output)
    assert done.returncode == 1
    assert f"{output / 'base'} lies in {output}" in done.stderr
    assert (output / "base" / "config.json").is_file()
