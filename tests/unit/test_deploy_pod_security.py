"""In a namespace whose Pod Security is `restricted`: what each Pod and each container has to say."""

import yaml

from rayproxy.checkpoint import capabilities
from rayproxy.checkpoint.checkpoint import parse
from rayproxy.checkpoint.manifest import build
from rayproxy.checkpoint.options import checked
from tests.support import golden

DOCUMENTED = yaml.safe_load((golden.INPUTS / "documented.yaml").read_text(encoding="utf-8"))


def cluster(**said: object) -> dict:
    wanted = checked({"max_replicas": 2, **said})
    return build(parse(DOCUMENTED, wanted), wanted, capabilities.of_release("1.7"))["spec"]["rayClusterConfig"]


def pods(**said: object) -> list[dict]:
    found = cluster(**said)
    return [group["template"]["spec"] for group in (found["headGroupSpec"], *found["workerGroupSpecs"])]


def test_every_pod_and_every_container_may_run_in_a_namespace_that_is_restricted():
    for pod in pods():
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    containers = [container for pod in pods() for container in pod["containers"]]
    for container in (*containers, cluster()["autoscalerOptions"]):  # KubeRay makes the autoscaler's
        locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == locked


def test_an_image_whose_user_is_root_runs_as_root_where_that_is_said():
    assert "securityContext" not in yaml.safe_dump(cluster(allow_root=True))
