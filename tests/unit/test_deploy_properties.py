"""Whatever the options, the RayService is whole: no definition drops or rejects a field of it."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.checkpoint import capabilities, schema
from rayproxy.checkpoint.checkpoint import parse
from rayproxy.checkpoint.manifest import build
from rayproxy.checkpoint.options import checked
from tests.support import definitions, golden

DOCUMENTED = yaml.safe_load((golden.INPUTS / "documented.yaml").read_text(encoding="utf-8"))
CRDS = [each.load()[0] for each in (definitions.OWN_OLD, definitions.OWN_TODAY)]

words = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
quantities = st.from_regex(r"[1-9][0-9]{0,2}(m|Mi|Gi)?", fullmatch=True)
options = st.fixed_dictionaries(
    {},
    optional={
        "name": words,
        "gpus": st.integers(0, 64),
        "replicas": st.integers(1, 8),
        "max_replicas": st.integers(8, 16),
        "cpu": quantities,
        "memory": quantities,
        "shm_size": quantities,
        "storage": st.builds("pvc://{}/{}".format, words, words),
        "node_selector": st.dictionaries(words, words, max_size=3),
        "tolerations": st.lists(st.builds("{}={}:NoSchedule".format, words, words), max_size=3),
        "image_pull_secrets": st.lists(words, max_size=3),
        "env": st.dictionaries(words.map(lambda word: word.replace("-", "_")), st.text("a,= é\n$()", max_size=9)),
        "model_name": words,
        "max_length": st.integers(1, 1_000_000),
        "dtype": st.sampled_from(["auto", "float16"]),
        "gpu_memory_utilization": st.floats(0.01, 1),
        "engine": st.sampled_from(["vllm", "generate"]),
        "trust_remote_code": st.booleans(),
        "allow_root": st.booleans(),
        "port": st.integers(11000, 65535).filter(lambda port: port != 52365),  # the dashboard's agent
        "redis": st.builds("{}:{}".format, words, st.integers(1, 65535)),
        "read_timeout": st.integers(1, 86400),
    },
)


@given(options, st.sampled_from(CRDS))
def test_no_definition_drops_or_rejects_anything(said, crd):
    wanted = checked(said)

    manifest = build(parse(DOCUMENTED, wanted), wanted, capabilities.of_crd(crd))

    assert schema.violations(capabilities.rayservice_schema(crd), manifest) == []
    assert yaml.safe_load(yaml.safe_dump(manifest)) == manifest


@given(options)
def test_streams_outlive_an_upgrade(said):
    wanted = checked(said)

    manifest = build(parse(DOCUMENTED, wanted), wanted, capabilities.of_release("1.7"))

    assert manifest["spec"]["rayClusterDeletionDelaySeconds"] >= wanted.read_timeout
    (application,) = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]
    (deployment,) = application["deployments"]
    assert deployment["graceful_shutdown_timeout_s"] >= wanted.read_timeout


@given(options)
def test_the_cluster_holds_every_replica_that_ray_serve_may_start(said):
    wanted = checked(said)

    spec = build(parse(DOCUMENTED, wanted), wanted, capabilities.of_release("1.7"))["spec"]

    (workers,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    (deployment,) = yaml.safe_load(spec["serveConfigV2"])["applications"][0]["deployments"]
    scale = deployment.get("autoscaling_config", {})
    assert workers["minReplicas"] == scale.get("min_replicas", deployment.get("num_replicas"))
    assert workers["maxReplicas"] == scale.get("max_replicas", deployment.get("num_replicas"))
    assert spec["rayClusterConfig"].get("enableInTreeAutoscaling", False) is bool(scale)
    (container,) = workers["template"]["spec"]["containers"]
    gpus = int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
    assert deployment["ray_actor_options"]["num_gpus"] == gpus
