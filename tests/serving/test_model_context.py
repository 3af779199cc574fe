"""`make model-context`: what the server would refuse at its start is refused before an image is built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import loads
import model_context
import pytest
from llmserving.loading import check as names
from llmserving.loading import weights
from llmserving.settings import from_mapping

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


def test_what_a_trainer_keeps_to_go_on_is_left_out(base, checkpoint, tmp_path):
    for name in (
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "training_args.bin",
        "checkpoint-500/optimizer.pt",
    ):
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_bytes(b"x")
    before = {path.name for path in checkpoint.iterdir()}
    assert context(base, checkpoint, tmp_path / "context").returncode == 0
    after = {path.name for path in (tmp_path / "context/checkpoint").iterdir()}
    assert before - after == {
        *("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin", "checkpoint-500")
    }


@pytest.mark.parametrize("part", ["base", "checkpoint"])
def test_what_begins_with_a_dot_is_left_out_tokens_and_all(base, checkpoint, tmp_path, part):
    copy = loads.copy(base, tmp_path / "base")
    folder = {"base": copy, "checkpoint": checkpoint}[part]
    for name in (
        ".git/config",
        ".git/lfs/objects/ab",
        ".env",
        ".cache/huggingface/token",
        "sub/.netrc",
        "sub/kept.txt",
    ):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("secret")
    assert context(copy, checkpoint, tmp_path / "context").returncode == 0
    laid_out = tmp_path / "context" / part
    assert [path.name for path in laid_out.rglob(".*")] == []
    assert (laid_out / "sub/kept.txt").is_file()


def test_a_link_in_what_is_left_out_refuses_nothing(base, checkpoint, tmp_path):
    """Weights & Biases keeps wandb/latest-run, a link to a folder."""
    for name in ("wandb", ".cache"):
        (checkpoint / name).mkdir()
        (checkpoint / name / "latest-run").symlink_to(tmp_path)
        (checkpoint / name / "gone").symlink_to("nowhere")
    (checkpoint / ".latest").symlink_to(tmp_path)
    assert context(base, checkpoint, tmp_path / "context").returncode == 0


def test_a_folder_around_the_model_names_the_one_that_is_meant(base, checkpoint, tmp_path):
    for step in ("checkpoint-500", "checkpoint-1000"):
        loads.copy(checkpoint, tmp_path / "output" / step)
    loads.copy(base, tmp_path / "hub/models--a--b/snapshots/abc")
    said = context(base, tmp_path / "output", tmp_path / "context").stderr
    assert said.endswith(f": one is in {tmp_path / 'output/checkpoint-1000'}: name that folder\n")
    said = context(tmp_path / "hub/models--a--b", checkpoint, tmp_path / "context").stderr
    assert said.endswith(f": one is in {tmp_path / 'hub/models--a--b/snapshots/abc'}: name that folder\n")


def test_a_folder_that_is_not_there_or_not_named_is_told_as_such(base, tmp_path):
    assert context(base, tmp_path / "no", tmp_path / "context").stderr.endswith(": there is no such folder\n")
    done = context(base, "", tmp_path / "context")
    assert (done.returncode, "for a model that has no base, the same folder twice" in done.stderr) == (2, True)


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


@pytest.mark.parametrize("part", ["base", "checkpoint"])
def test_an_output_within_the_model_is_refused_that_would_be_copied_into_itself(base, checkpoint, tmp_path, part):
    copy = loads.copy(base, tmp_path / "base")
    output = {"base": copy, "checkpoint": checkpoint}[part] / "build" / "model"
    done = context(copy, checkpoint, output)
    assert done.returncode == 1
    assert f"{output} lies in {output.parents[1]}, which would be copied into itself" in done.stderr
    assert not output.exists()


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "id_rsa").write_text("secret")
    return tmp_path / "id_rsa"


@pytest.mark.parametrize("place", ["notes.txt", "sub/notes.txt"])
@pytest.mark.parametrize("part", ["base", "checkpoint"])
def test_a_link_that_leaves_the_model_is_refused_by_name(base, checkpoint, tmp_path, secret, part, place):
    """Whoever trained it would have a file of whoever builds the image in it."""
    copy = loads.copy(base, tmp_path / "base")
    link = {"base": copy, "checkpoint": checkpoint}[part] / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(secret)
    done = context(copy, checkpoint, tmp_path / "context")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"model_context: {link}: a link to {secret}, which is not the model's: put the file" in done.stderr
    assert not (tmp_path / "context").exists()


def test_a_link_to_a_folder_is_refused_by_name(base, checkpoint, tmp_path):
    (checkpoint / "again").symlink_to(checkpoint)
    done = context(base, checkpoint, tmp_path / "context")
    assert f"{checkpoint / 'again'}: a link to a folder, {checkpoint}: put the folder in its place" in done.stderr
    assert not (tmp_path / "context").exists()


def test_what_is_no_file_is_refused_by_name(base, checkpoint, tmp_path):
    (checkpoint / "gone").symlink_to("nowhere")
    done = context(base, checkpoint, tmp_path / "context")
    assert (
        f"gone: neither a file nor a folder, or a link to {checkpoint / 'nowhere'}, which is not there" in done.stderr
    )
    (checkpoint / "gone").unlink()
    os.mkfifo(checkpoint / "gone")
    assert "gone: neither a file nor a folder" in context(base, checkpoint, tmp_path / "context").stderr


def test_the_hubs_cache_is_laid_out_with_its_files(base, checkpoint, tmp_path, secret):
    """As huggingface_hub keeps a repository: snapshots of links to blobs, by their hashes."""
    snapshot, blobs = tmp_path / "models--a--b/snapshots/0a1b", tmp_path / "models--a--b/blobs"
    (snapshot / "sub").mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate([*base.iterdir()]):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    (snapshot / "sub/config.json").symlink_to("../../../blobs/0")
    (tmp_path / "current").symlink_to(snapshot)  # a link to the whole is its giver's
    output = tmp_path / "context"
    assert context(tmp_path / "current", checkpoint, output).stderr == ""
    assert all(path.is_file() and not path.is_symlink() for path in (output / "base").glob("*.*"))
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    assert "which is not the model's" in context(snapshot, checkpoint, output).stderr


def test_a_reason_of_several_lines_is_shown_whole(base, checkpoint, tmp_path):
    done = context(base, checkpoint, tmp_path / "context", SERVING_DTYPE="float7")
    assert done.returncode == 1
    assert "model_context: 1 validation error for Settings\ndtype\n  Input should be 'auto'" in done.stderr


def test_what_ends_without_a_reason_is_shown_with_its_last_words(base, checkpoint, tmp_path, monkeypatch):
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\necho so far so good >&2\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(model_context, "PYTHON", killed)
    with pytest.raises(ValueError, match=r"^what compares them ended with -9: so far so good$"):
        model_context.check_names(base, checkpoint)


@pytest.fixture
def ended(monkeypatch, capsys):
    """Return a function that says how the check ends, and with which reason, where an error ends a start."""

    def end(error):
        def start(_):
            print("a model's own code says something")
            raise error

        monkeypatch.setattr(names, "check", start)
        monkeypatch.setattr(sys, "argv", ["check", "--engine=echo"])
        with pytest.raises(SystemExit) as end:
            names.main()
        return end.value.code, capsys.readouterr().out

    return end


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("one line\nand another"), "one line\nand another\n"),
        (NotImplementedError("this activation"), "NotImplementedError: this activation\n"),
        (KeyError("rope_theta"), "KeyError: 'rope_theta'\n"),
        (RuntimeError(), "RuntimeError: \n"),
    ],
    ids=repr,
)
def test_what_would_end_a_start_refuses_whatever_its_kind(ended, error, reason):
    assert ended(error) == (1, reason)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ImportError("No module named 'gptqmodel'"),
        caused(ValueError("quantised by gptq"), ImportError("gptqmodel")),
        NotImplementedError("Cannot copy out of meta tensor; no data!"),
        RuntimeError("Tensor.item() cannot be called on meta tensors"),
        caused(ValueError("does not fit"), NotImplementedError("Could not run 'aten::x' from the 'Meta' backend")),
    ],
    ids=repr,
)
def test_what_this_machine_alone_cannot_tell_is_not_refused(ended, error):
    """The words are torch 2.13's."""
    assert ended(error)[0] == names.NOT_CHECKED


class TestTheEncoder:
    @pytest.fixture
    def encoder(self, base, tmp_path):
        return loads.copy(base, tmp_path / "encoder")

    def test_that_is_not_whole_is_refused(self, base, checkpoint, encoder, tmp_path):
        loads.edit_tensors(
            encoder / "model.safetensors",
            lambda tensors: {name: each for name, each in tensors.items() if "norm" not in name},
        )
        done = context(base, checkpoint, tmp_path / "context", SERVING_EMBEDDING_MODEL_DIR=str(encoder))
        assert done.returncode == 1
        assert f"model_context: {encoder}: parameters of the model are missing (5): " in done.stderr

    def test_without_a_tokenizer_is_refused(self, base, encoder):
        (encoder / "tokenizer.json").unlink()
        with pytest.raises(ValueError, match=rf"{encoder}: its tokenizer cannot be loaded"):
            names.check(from_mapping({"model_dir": base, "embedding_model_dir": encoder}))

    def test_is_compared_without_its_numbers(self, base, encoder, monkeypatch):
        loaded = []
        load = weights.load

        def watched(*given, **how):
            loaded.append(load(*given, **how))
            return loaded[-1]

        monkeypatch.setattr(weights, "load", watched)
        names.check(from_mapping({"model_dir": base, "embedding_model_dir": encoder}))
        assert len(loaded) == 2
        assert {each.device.type for model in loaded for each in model.parameters()} == {"meta"}
