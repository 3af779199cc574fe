"""The RayService of each case, to the letter; the command stands at the head of each file."""

import pytest
import yaml

from rayproxy.__main__ import main
from tests.support import golden, readme


@pytest.mark.parametrize("path", golden.FILES, ids=lambda path: path.stem)
def test_the_command_at_the_head_of_a_golden_file_prints_the_rest_of_it(path, capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)

    assert main(golden.arguments(path)) == 0

    assert capsys.readouterr().out == golden.output(path)


def test_no_variable_of_the_environment_changes_what_is_served(capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    for name in ("RAYPROXY_PORT", "PORT", "RAYPROXY_GPUS", "GPUS", "NAME", "NAMESPACE", "OUTPUT"):
        monkeypatch.setenv(name, "tcp://10.96.0.1:80")
    path = next(path for path in golden.FILES if path.stem == "documented")

    assert main(golden.arguments(path)) == 0

    assert capsys.readouterr().out == golden.output(path)


def test_the_page_of_checkpoints_shows_the_options_and_the_kserve_equivalents_as_they_are():
    assert {"options", "flags", "kserve-huggingface", "kserve-vllm", "kserve-two-gpus"} <= set(readme.parts())
    assert readme.PATH.read_text(encoding="utf-8") == readme.filled(), "run make golden"


def test_the_models_name_is_the_rayservices_unless_somebody_says_otherwise(capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    path = next(path for path in golden.FILES if path.stem == "documented")
    names = {}
    for said in ([], ["--model-name", "mine"], ["--env", "SERVING_MODEL_NAME=theirs"]):
        assert main([*golden.arguments(path), *said]) == 0
        container = yaml.safe_load(capsys.readouterr().out)["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
        env = container["template"]["spec"]["containers"][0]["env"]
        names[" ".join(said)] = [each["value"] for each in env if each["name"] == "SERVING_MODEL_NAME"]
    assert list(names.values()) == [["finetune-sample"], ["mine"], ["theirs"]]


@pytest.mark.parametrize(
    ("ray", "name"),
    [
        ("2.8.0", "target_num_ongoing_requests_per_replica"),
        ("2.9.3", "target_num_ongoing_requests_per_replica"),
        ("2.10.0", "target_ongoing_requests"),
        ("2.60.0", "target_ongoing_requests"),
    ],
)
def test_what_autoscaling_aims_at_has_the_name_that_this_ray_knows(ray, name, capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    scaled = ["--max-replicas", "4", "--target-ongoing-requests", "20", "--ray-version", ray]

    assert main(["deploy", "-f", "documented.yaml", "--kuberay", "1.7", "--dry-run", *scaled]) == 0

    config = yaml.safe_load(yaml.safe_load(capsys.readouterr().out)["spec"]["serveConfigV2"])
    (deployment,) = config["applications"][0]["deployments"]
    assert deployment["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 4, name: 20}


@pytest.mark.parametrize("word", ["null", "None", "true"])
def test_a_word_on_the_command_line_is_the_text_itself(word, capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    names = ["--model-name", word, "--name", word.lower(), "-n", word.lower(), "--image-pull-secrets", word.lower()]

    assert main(["deploy", "--image", "x", "--base-model-dir", "/x", "--kuberay", "1.7", "--dry-run", *names]) == 0

    made = yaml.safe_load(capsys.readouterr().out)
    pod = made["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    (model,) = (each["value"] for each in pod["containers"][0]["env"] if each["name"] == "SERVING_MODEL_NAME")
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == (word.lower(), word.lower())
    assert (model, pod["imagePullSecrets"]) == (word, [{"name": word.lower()}])


def test_the_former_names_of_the_commands_do_the_same_and_stand_in_no_help(capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    path = next(path for path in golden.FILES if path.stem == "documented")

    assert main(["serve", *golden.arguments(path)[1:]]) == 0
    assert capsys.readouterr().out == golden.output(path)
    assert main(["unserve", "Not A Name"]) == 2
    assert "rayproxy undeploy: " in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert not {"serve", "unserve"} & set(capsys.readouterr().out.split())
