"""What is wrong with a checkpoint or an option, and the message that a person gets for it."""

import copy
import io

import pytest
import yaml

from rayproxy.__main__ import main
from tests.support import golden

DOCUMENTED = yaml.safe_load((golden.INPUTS / "documented.yaml").read_text(encoding="utf-8"))
PUBLISHED = yaml.safe_load((golden.INPUTS / "published.yaml").read_text(encoding="utf-8"))
BOTH_SHAPES = (
    "An LLMCheckpoint names its image in one of two shapes: "
    "spec.checkpointImage.{name,llmPath,checkPointPath}, "
    "or, where there is no spec.checkpointImage, spec.image.{name,path} and spec.checkpoint"
)
GONE = object()


def shapes(fault):
    """Return the message about a field of spec, which names both shapes."""
    return f"LLMCheckpoint: {fault}. {BOTH_SHAPES}"


def broken(document, path, value):
    """Return a copy of `document` with `value` at `path`, or without what is there."""
    copied = copy.deepcopy(document)
    *way, last = path.split(".")
    place = copied
    for step in way:
        place = place[step]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return copied


CHECKPOINTS = {
    "documented, no image": (DOCUMENTED, "spec.image", GONE, shapes("spec.image.name is missing")),
    "documented, no image name": (DOCUMENTED, "spec.image.name", GONE, shapes("spec.image.name is missing")),
    "documented, empty name": (DOCUMENTED, "spec.image.name", "", shapes("spec.image.name is missing")),
    "documented, no path": (DOCUMENTED, "spec.image.path", GONE, shapes("spec.image.path is missing")),
    "documented, no checkpoint": (DOCUMENTED, "spec.checkpoint", GONE, shapes("spec.checkpoint is missing")),
    "documented, image a text": (
        DOCUMENTED,
        "spec.image",
        "x:1",
        shapes("spec.image is a str, not a mapping"),
    ),
    "documented, name a number": (
        DOCUMENTED,
        "spec.image.name",
        7,
        shapes("spec.image.name is a int, not a text"),
    ),
    "documented, another bucket": (
        DOCUMENTED,
        "spec.checkpoint",
        "models/run/checkpoint_000000",
        (
            "spec.checkpoint 'models/run/checkpoint_000000' does not begin with the bucket 'datatunerx': "
            "give its bucket with --bucket ('' where there is none), or the directory with --checkpoint-dir"
        ),
    ),
    "documented, a way out of the directory": (
        DOCUMENTED,
        "spec.checkpoint",
        "datatunerx/../../etc",
        "LLMCheckpoint finetune-sample: --checkpoint-dir: '/checkpoint/../../etc' is not an absolute path",
    ),
    "documented, relative path": (
        DOCUMENTED,
        "spec.image.path",
        "llama2-7b",
        "LLMCheckpoint finetune-sample: --base-model-dir: 'llama2-7b' is not an absolute path",
    ),
    "documented, no such pull policy": (
        DOCUMENTED,
        "spec.image.imagePullPolicy",
        "Sometimes",
        "LLMCheckpoint finetune-sample: --image-pull-policy: Input should be 'Always'",
    ),
    "documented, no image reference": (
        DOCUMENTED,
        "spec.image.name",
        "my image; rm -rf /",
        (
            "LLMCheckpoint finetune-sample: --image: 'my image; rm -rf /' is not the reference of an image, "
            "such as registry.example.com/team/model:1"
        ),
    ),
    "published, no image name": (
        PUBLISHED,
        "spec.checkpointImage.name",
        GONE,
        shapes("spec.checkpointImage.name is missing"),
    ),
    "published, no model path, though the other shape has one": (
        PUBLISHED,
        "spec.checkpointImage.llmPath",
        "",
        shapes("spec.checkpointImage.llmPath is missing"),
    ),
    "published, no checkpoint path, though the other shape has one": (
        PUBLISHED,
        "spec.checkpointImage.checkPointPath",
        GONE,
        shapes("spec.checkpointImage.checkPointPath is missing"),
    ),
    "published, empty": (
        PUBLISHED,
        "spec.checkpointImage",
        {},
        shapes("spec.checkpointImage.name is missing"),
    ),
    "published, a list": (
        PUBLISHED,
        "spec.checkpointImage",
        [1],
        shapes("spec.checkpointImage is a list, not a mapping"),
    ),
    "still running": (
        PUBLISHED,
        "status.state",
        "RUNNING",
        "status.state is RUNNING, not SUCCESSFUL: its image may",
    ),
    "failed": (PUBLISHED, "status.state", "FAILED", "status.state is FAILED, not SUCCESSFUL"),
    "no state": (PUBLISHED, "status", {}, "status.state is missing, not SUCCESSFUL"),
    "no spec": (DOCUMENTED, "spec", GONE, shapes("spec is missing or not a mapping")),
    "no metadata": (DOCUMENTED, "metadata", GONE, "LLMCheckpoint: metadata is missing: it holds the name"),
    "no name": (DOCUMENTED, "metadata.name", GONE, "LLMCheckpoint: metadata.name is missing"),
    "a name too long for a RayService": (
        DOCUMENTED,
        "metadata.name",
        "x" * 48,
        "is not a name for a RayService: at most 47 small letters, digits and dashes, a letter first",
    ),
    **{
        f"namespace {namespace!r}": (DOCUMENTED, "metadata.namespace", namespace, f"metadata.namespace {message}")
        for namespace, message in {
            5: "is a int, not a text",
            ("a",): "is a list, not a text",
            "a/b?c": "'a/b?c' is not the name of a namespace: at most 63 small letters, digits and dashes",
            "a.b": "'a.b' is not the name of a namespace",
            "é": "'é' is not the name of a namespace",
            "x" * 64: f"'{'x' * 64}' is not the name of a namespace",
        }.items()
    },
    "another kind": (
        DOCUMENTED,
        "kind",
        "Dataset",
        "v1beta1 Dataset is not an LLMCheckpoint of core.datatunerx.io: check apiVersion and kind",
    ),
    "another group": (
        DOCUMENTED,
        "apiVersion",
        "v1",
        "v1 LLMCheckpoint is not an LLMCheckpoint of core.datatunerx.io",
    ),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_broken_checkpoint_is_refused_with_the_field_and_what_to_do(case, tmp_path, capsys):
    document, path, value, message = CHECKPOINTS[case]
    file = tmp_path / "checkpoint.yaml"
    file.write_text(yaml.safe_dump(broken(document, path, value)), encoding="utf-8")

    code = main(["deploy", "-f", str(file), "--kuberay", "1.7", "--dry-run"])

    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert message in err


FILES = {
    "": "holds 0 documents: give a file with one LLMCheckpoint",
    "a: [1": "is not YAML: ",
    "a: 1\n---\nb: 2": "holds 2 documents: give a file with one LLMCheckpoint",
    "- a list": "a list is not an LLMCheckpoint: a mapping with kind and spec is",
    "a: !!int ''": "is not YAML: line 1, column 4: '' is no int",
    "[" * 5000: "is not YAML: lists and mappings nest deeper than 200",
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_without_a_checkpoint_is_refused_by_its_name(text, tmp_path, capsys):
    file = tmp_path / "checkpoint.yaml"
    file.write_text(text, encoding="utf-8")

    assert main(["deploy", "-f", str(file), "--kuberay", "1.7", "--dry-run"]) != 0

    assert FILES[text] in capsys.readouterr().err


OPTIONS = {
    "--gpus -1": "--gpus: Input should be greater than or equal to 0",
    "--gpus two": "--gpus: Input should be a valid integer, unable to parse string as an integer",
    "--replicas 0": "--replicas: Input should be greater than or equal to 1",
    "--replicas 3 --max-replicas 2": "--max-replicas 2 is less than --replicas 3",
    "--cpu 8cores": "--cpu: '8cores' is not a quantity, such as 6, 500m or 24Gi",
    "--memory=-1Gi": "--memory: '-1Gi' is not a quantity",
    "--port 8265": "--port 8265 is taken in each RayCluster, by the dashboard: give another one, such as 8000",
    "--port 52365": "--port 52365 is taken in each RayCluster, by the dashboard's agent: give another one",
    "--port 8080": "--port 8080 is taken in each RayCluster, by Ray's metrics (KubeRay's metrics-export-port): give",
    "--port 70000": "--port: Input should be less than or equal to 65535",
    "--name Upper_Case": "--name: 'Upper_Case' is not a name for a RayService",
    "--name 1st": "--name: '1st' is not a name for a RayService",
    "--storage s3://bucket/models": "--storage: 's3://bucket/models' is not pvc://NAME or pvc://NAME/PATH",
    "--storage pvc://claim/../secrets": "--storage: 'pvc://claim/../secrets' is not pvc://NAME",
    "--tolerations gpu:Always": (
        "'gpu:Always' is not KEY[=VALUE][:EFFECT], a taint; effects: NoSchedule, PreferNoSchedule, NoExecute"
    ),
    "--node-selector gpu": "--node-selector: 'gpu' is not NAME=VALUE",
    "--node-selector a/b/c=d": "--node-selector.a/b/c: 'a/b/c' is not a label's key",
    "--env 1A=b": "--env.1A: '1A' is not the name of an environment variable",
    "--env A=b,c": "--env: 'c' is not NAME=VALUE; a value that has a comma belongs in the values file",
    "--env A=1 --env A=2": "--env: 'A' is given twice",
    "--env BASE_MODEL_DIR=/x": "--env BASE_MODEL_DIR: set already, by the checkpoint or by an option",
    "--env SERVING_MAX_LENGTH=1 --max-length 2": "--env SERVING_MAX_LENGTH: set already",
    "--dtype int3": "--dtype: Input should be 'auto', 'float32', 'bfloat16' or 'float16'",
    "--gpu-memory-utilization 1.5": "--gpu-memory-utilization: Input should be less than or equal to 1",
    "--max-length 0": "--max-length: Input should be greater than or equal to 1",
    "--ray-version 2.7.1": "--ray-version 2.7.1: KubeRay 1.1 and newer needs Ray 2.8.0 or newer in the image",
    "--ray-version latest": "--ray-version: 'latest' is not a version of Ray, such as 2.60.0",
    "--working-dir /home/inference": "--working-dir: '/home/inference' is not a working directory",
    "--import-path inference": "--import-path: 'inference' is not an import path",
    "--image-pull-secrets Not_A_Name": "--image-pull-secrets.0: 'Not_A_Name' is not the name",
    "--kuberay 0.6": "KubeRay 0.6 has no ray.io/v1 RayService: KubeRay 1.0 or newer is needed",
    "--kuberay new": "--kuberay 'new' is not a release of KubeRay: give one such as 1.0 or 1.7.0",
    "-n elsewhere": "--namespace elsewhere, but documented.yaml has namespace datatunerx-dev",
    "other-checkpoint": "both LLMCheckpoint other-checkpoint and --filename documented.yaml: give one",
    "--proxy proxy:8080": "--proxy: 'proxy:8080' is not the proxy's address, such as http://127.0.0.1:8080",
    "--incremental 20%:30": "--incremental 20%:30 needs --gateway-class, one that this cluster has a controller for",
    "--gateway-class istio": "--gateway-class istio says nothing without --incremental",
    "--incremental 20:30 --gateway-class istio": "--incremental: '20:30' is not PERCENT%:SECONDS, such as 20%:30",
    "--incremental 0%:30 --gateway-class istio": "--incremental: '0%:30' is not PERCENT%:SECONDS",
    "--incremental 101%:30 --gateway-class istio": "--incremental: '101%:30' is not PERCENT%:SECONDS",
    "--incremental 20%:0 --gateway-class istio": "--incremental: '20%:0' is not PERCENT%:SECONDS",
    "--incremental 20%:30 --gateway-class istio --kuberay 1.4": "has no clusterUpgradeOptions: leave it out, or use",
    "--redis redis": "--redis: 'redis' is not HOST:PORT, such as redis.cache.svc:6379",
    "--redis $(evil):6379": "--redis: '$(evil):6379' is not HOST:PORT",
    "--redis-secret redis": "--redis-secret redis without --redis: give its HOST:PORT as well",
    "--redis r:1 --redis-secret a:b:c": "--redis-secret: 'a:b:c' is not NAME or NAME:KEY, a Secret and a key in it",
    "--values missing.yaml": "cannot read missing.yaml: ",
    "--values documented.yaml": "documented.yaml: --apiVersion: there is no such option",
    "--image MyModel:1": "--image: 'MyModel:1' is not the reference of an image",
    "--image my-/model:1": "--image: 'my-/model:1' is not the reference of an image",
    "--image model:ü": "--image: 'model:ü' is not the reference of an image",
}


@pytest.mark.parametrize("words", OPTIONS)
def test_a_wrong_option_is_refused_by_its_name(words, capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)

    code = main(["deploy", "-f", "documented.yaml", "--kuberay", "1.7", "--dry-run", *words.split()])

    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert out == ""
    assert OPTIONS[words] in err


WITHOUT = ["deploy", "-f", "published.yaml", "--kuberay", "1.7", "--dry-run"]


@pytest.fixture
def values(tmp_path, monkeypatch):
    """Return what runs the command with a values file of this text, and flags."""
    monkeypatch.chdir(golden.INPUTS)

    def run(text, *flags):
        (tmp_path / "values.yaml").write_text(text, encoding="utf-8")
        return main([*WITHOUT, "--values", str(tmp_path / "values.yaml"), *flags])

    return run


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("gateway-class: istio", "--incremental 20%:30"),
        ("incremental: 20%:30", "--gateway-class istio"),
        ("redis: redis.cache:6379", "--redis-secret redis"),
        ("redis-secret: redis", "--redis redis.cache:6379"),
        ("max-replicas: 2", "--max-replicas 4 --replicas 3"),
        ("port: 8265", "--port 8000"),
    ],
)
def test_flags_and_the_values_file_are_judged_together(text, flags, values, capsys):
    assert values(text, *flags.split()) == 0, capsys.readouterr().err


def test_what_flags_and_the_values_file_ask_for_together_is_refused(values, capsys):
    assert values("max-replicas: 2", "--replicas", "3") == 1
    assert "values.yaml: --max-replicas 2 is less than --replicas 3" in capsys.readouterr().err


EMPTY = [
    "env:", "tolerations:", "node-selector:", "image_pull_secrets:", "max-length:", "gpus:", "bucket:", "allow-root:",
]  # fmt: skip


@pytest.mark.parametrize("text", ["", "# max-length: 6144\n", "---\n", "\ufeffgpus: 1", *EMPTY])
def test_a_values_file_or_an_option_in_it_that_asks_for_nothing_changes_nothing(text, values, capsys):
    assert main(WITHOUT) == 0
    without = capsys.readouterr().out
    assert values(text) == 0
    assert capsys.readouterr().out == without


VALUES = {
    "- gpus: 1": "values.yaml holds a list: write one 'option: value' a line",
    "gpus: 1\n---\ngpus: 2": "values.yaml holds 2 documents: give a file with one",
    "gpus: [": "values.yaml is not YAML: line 2, column 1: ",
    "[" * 5000: "values.yaml is not YAML: lists and mappings nest deeper than 200",
    "gpus: !!int ''": "values.yaml is not YAML: line 1, column 7: '' is no int",
    "gpus: 2023-13-45": "values.yaml: --gpus: Input should be a valid integer",
    "env: {HF_HUB_OFFLINE: 1}": "--env.HF_HUB_OFFLINE: a number where a text is wanted: write it in quotes",
    "env: {HF_HUB_OFFLINE: yes}": "--env.HF_HUB_OFFLINE: a boolean where a text is wanted: write it in quotes",
    "env: {A_B: }": "--env.A_B: nothing where a text is wanted: an empty one is ''",
    "env: {A_B: [x]}": "--env.A_B: a list where a text is wanted",
    "env: {1: x}": "--env.1: a number where a text is wanted: write it in quotes",
    "env: [A=b]": "--env: a list where a mapping is wanted: write NAME: VALUE",
    "env: 5": "--env: a number where a mapping is wanted: write NAME: VALUE",
    "node_selector: {gpu_type: 80}": "--node-selector.gpu_type: a number where a text is wanted: write it in quotes",
    "tolerations: {gpu: true}": "--tolerations: a mapping where a list is wanted",
    "tolerations: [{key: gpu}]": "--tolerations.0: a mapping where a text is wanted",
    "model_name: 7": "--model-name: a number where a text is wanted: write it in quotes",
    "no_such: ": "values.yaml: --no-such: there is no such option",
}


@pytest.mark.parametrize("text", VALUES, ids=lambda text: text[:20])
def test_a_values_file_that_cannot_be_read_is_refused_by_its_name(text, values, capsys):
    assert values(text) == 1
    assert VALUES[text] in capsys.readouterr().err


@pytest.mark.parametrize("word", ["2023-13-45", "2023-11-29", "0001-01-01T00:00:00+10:00", "1:30"])
def test_what_yaml_takes_for_a_time_is_a_text(word, values, capsys):
    assert values(f"env: {{A: {word}}}") == 0
    assert f"value: {word}\n" in capsys.readouterr().out.replace("'", "")


@pytest.mark.parametrize(
    "image",
    [
        "my_model:1",
        "my__model",
        "localhost:5000/a--b/c.d:_1",
        "[fd00::1]:5000/model",
        "Registry.example.com/model@sha512:" + "0" * 128,
        "registry.example.com/team/model:1@sha256:" + "a" * 64,
    ],
)
def test_an_image_is_whatever_the_grammar_of_references_has(image, values, capsys):
    assert values("", "--image", image) == 0, capsys.readouterr().err


def test_without_a_checkpoint_the_options_that_are_missing_are_named(capsys):
    assert main(["deploy", "--name", "x", "--kuberay", "1.7", "--dry-run"]) != 0

    assert "name an LLMCheckpoint, or give --image, --base-model-dir (or --storage) as well" in capsys.readouterr().err


def test_all_that_is_wrong_with_the_options_is_said_at_once(capsys):
    assert main(["deploy", "--gpus", "-1", "--port", "0", "--dtype", "x", "--kuberay", "1.7", "--dry-run"]) != 0

    err = capsys.readouterr().err
    assert all(flag in err for flag in ("--gpus: ", "--port: ", "--dtype: "))


def test_an_unfinished_checkpoint_is_served_when_any_state_will_do(tmp_path, capsys):
    file = tmp_path / "checkpoint.yaml"
    file.write_text(yaml.safe_dump(broken(PUBLISHED, "status.state", "RUNNING")), encoding="utf-8")

    main(["deploy", "-f", str(file), "--kuberay", "1.7", "--dry-run", "--any-state"])

    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["name"] == "qa-service-chatglm3"


def test_a_checkpoint_is_read_from_standard_input(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(DOCUMENTED)))

    assert main(["deploy", "-f", "-", "--kuberay", "1.7", "--dry-run"]) == 0

    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["name"] == "finetune-sample"


@pytest.mark.parametrize(
    ("kuberay", "letters", "code"),
    [
        ("1.0", 47, 1),
        ("1.3", 47, 1),
        ("1.3.2", 47, 1),
        ("1.0", 46, 0),
        ("1.3", 46, 0),
        ("1.4.0", 47, 0),
        ("1.7", 47, 0),
    ],
)
def test_a_name_of_which_an_older_kuberay_can_make_no_pod_is_refused(kuberay, letters, code, capsys):
    named = ["--name", "x" * letters, "--image", "model:1", "--base-model-dir", "/m"]

    assert main(["deploy", *named, "--kuberay", kuberay, "--dry-run"]) == code

    refusal = (
        f"{'x' * letters}: the name has 47 characters, and KubeRay before 1.4 can make pods for 46: give a shorter"
    )
    assert (refusal in capsys.readouterr().err) is bool(code)


@pytest.mark.parametrize(("kuberay", "said"), [("1.0", True), ("1.4", True), ("1.5", False)])
def test_a_kuberay_that_cuts_streams_in_an_upgrade_is_worth_a_note(kuberay, said, capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)

    main(["deploy", "-f", "documented.yaml", "--kuberay", kuberay, "--dry-run"])

    assert ("note: 60 s after an upgrade this KubeRay deletes the old cluster" in capsys.readouterr().err) is said


def test_an_option_mends_a_checkpoint_that_lacks_the_field(tmp_path, capsys):
    file = tmp_path / "checkpoint.yaml"
    file.write_text(yaml.safe_dump(broken(DOCUMENTED, "spec.image.path", GONE)), encoding="utf-8")

    main(["deploy", "-f", str(file), "--kuberay", "1.7", "--dry-run", "--base-model-dir", "/models/llama"])

    assert "value: /models/llama\n" in capsys.readouterr().out


def test_an_empty_text_in_place_of_the_image_is_refused_though_options_name_all_else(tmp_path, capsys):
    file = tmp_path / "checkpoint.yaml"
    file.write_text(yaml.safe_dump(broken(PUBLISHED, "spec.checkpointImage", "")), encoding="utf-8")
    flags = ["--image", "model:1", "--base-model-dir", "/models/llama"]

    assert main(["deploy", "-f", str(file), "--kuberay", "1.7", "--dry-run", *flags]) == 1
    assert shapes("spec.checkpointImage.checkPointPath is missing") in capsys.readouterr().err

    assert main(["deploy", "-f", str(file), "--kuberay", "1.7", "--dry-run", *flags, "--checkpoint-dir", "/x"]) == 0


def test_a_namespace_that_is_no_text_is_named_as_that_beside_a_flag_too(tmp_path, capsys):
    file = tmp_path / "checkpoint.yaml"
    file.write_text(yaml.safe_dump(broken(DOCUMENTED, "metadata.namespace", 5)), encoding="utf-8")

    assert main(["deploy", "-f", str(file), "--kuberay", "1.7", "--dry-run", "-n", "5"]) == 1
    assert "LLMCheckpoint: metadata.namespace is a int, not a text" in capsys.readouterr().err


def test_an_empty_namespace_is_none(tmp_path, capsys):
    file = tmp_path / "checkpoint.yaml"
    file.write_text(yaml.safe_dump(broken(DOCUMENTED, "metadata.namespace", "")), encoding="utf-8")

    assert main(["deploy", "-f", str(file), "--kuberay", "1.7", "--dry-run", "-n", "elsewhere"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["namespace"] == "elsewhere"


@pytest.mark.parametrize("command", ["deploy --name x", "undeploy x"])
def test_a_flag_names_a_namespace_by_the_same_rule(command, capsys):
    assert main([*command.split(), "-n", "a.b"]) == 2
    assert "--namespace: 'a.b' is not the name of a namespace" in capsys.readouterr().err


def test_an_image_that_names_another_ray_is_worth_a_note_and_no_more(capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)

    main(["deploy", "-f", "documented.yaml", "--kuberay", "1.7", "--dry-run"])

    assert "note: the image's name says Ray 2.7.1, the RayService will say 2.60.0" in capsys.readouterr().err


def served_root_path(capsys, *arguments):
    """Return the path that Ray Serve is told, and what was said beside it."""
    assert main(["deploy", "-f", "published.yaml", "--dry-run", *arguments]) == 0
    said = capsys.readouterr()
    spec = yaml.safe_load(said.out)["spec"]
    return yaml.safe_load(spec.get("serveConfigV2", "{}")).get("http_options", {}).get("root_path"), said.err


NO_ROOT_PATH = (
    "note: Ray Serve is not told its path at the proxy, so pages such as /docs look for their files elsewhere"
)


@pytest.mark.parametrize(
    ("arguments", "root_path"),
    [
        (["--kuberay", "1.7"], "/apis/rayservice/qa-service-chatglm3"),
        (["--kuberay", "1.1", "--name", "other"], "/apis/rayservice/other"),
        (["--kuberay", "1.7", "--ray-version", "2.59.0"], None),
        (["--kuberay", "1.7", "--image", "registry.example.com/ray2590-llama:1"], None),
        (
            ["--kuberay", "1.7", "--image", "registry.example.com/ray2600-llama:1"],
            "/apis/rayservice/qa-service-chatglm3",
        ),
        (["--kuberay", "1.0"], None),
    ],
)
def test_ray_is_told_its_path_only_where_that_works(arguments, root_path, capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    seen, said = served_root_path(capsys, *arguments)
    assert seen == root_path
    assert (NO_ROOT_PATH in said) is (root_path is None)


@pytest.mark.parametrize(("given", "root_path"), [("/ml/chat", "/ml/chat"), ("", None)])
def test_a_root_path_that_is_given_is_that_one_with_any_ray_and_without_a_note(given, root_path, capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    seen, said = served_root_path(capsys, "--kuberay", "1.7", "--ray-version", "2.40.0", "--root-path", given)
    assert seen == root_path
    assert NO_ROOT_PATH not in said


@pytest.mark.parametrize(
    "given", ["ml", "/ml/", "/", "/a//b", "/a/../b", "/a b", "/a?b", "/%2F", "/a\n", "http://x/a"]
)
def test_a_root_path_that_is_no_path_is_refused(given, capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    assert main(["deploy", "-f", "published.yaml", "--dry-run", "--kuberay", "1.7", "--root-path", given]) == 2
    assert "is not a path such as /apis/rayservice/NAME, without a slash at its end" in capsys.readouterr().err


def test_a_root_path_that_kuberay_1_0_cannot_hold_is_refused(capsys, monkeypatch):
    monkeypatch.chdir(golden.INPUTS)
    assert main(["deploy", "-f", "published.yaml", "--dry-run", "--kuberay", "1.0", "--root-path", "/a"]) == 1
    assert "--root-path: KubeRay 1.0's serveConfig has no place for it" in capsys.readouterr().err
