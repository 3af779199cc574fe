"""A cluster with deploy/ in it, and what a person does to a model there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from rayproxy.checkpoint.capabilities import rayservice_schema
from tests.support.apiserver import ApiProblem
from tests.support.callers import ANSWERED, Address, ask
from tests.support.cluster import Manifest, Own, Running
from tests.support.http import request
from tests.support.node import LONG
from tests.support.plain import Plain
from tests.support.waiting import until

IMAGE = "rayproxy:0.1.0"  # as deploy/ names it
MODEL_IMAGE, SECOND_IMAGE = "rayproxy-echo:cluster", "rayproxy-echo:second"
NAME, NAMESPACE = "chat", "rayproxy-tests"
ROUTE = f"/apis/rayservice/{NAME}"
RAYPROXY = Path(sys.executable).parent / "rayproxy"
SMALL = ["--gpus=0", "--cpu=700m", "--memory=2Gi", "--head-cpu=700m", "--head-memory=2500Mi"]
ECHO = [
    "--base-model-dir=/none",
    "--read-timeout=10",
    "--import-path=with_socket.deployment",
]  # an old cluster goes soon
HEAD, WORKER = "head", "worker"
RESTRICTED = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class World:
    """Speak to the cluster, and to the model through the proxy's Service."""

    running: Running
    namespace: str
    proxy: Address
    image: str = MODEL_IMAGE
    script: Plain | None = None  # which routes the same models beside the proxy

    @property
    def own(self) -> Own:
        """Return what runs the cluster; skip where that is somebody's."""
        if not self.running.own:
            pytest.skip("what runs an existing cluster is its owner's")
        return self.running.own

    def deploy(
        self, model: str, *options: str, engine: str = "echo", image: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Deploy the model under the name that its answers have, and follow it until it is served or cannot be."""
        follow = ["--wait", "--timeout=900", f"--proxy=http://{self.proxy[0]}:{self.proxy[1]}"]
        return self.apply(model, *follow, *options, engine=engine, image=image)

    def apply(
        self, model: str, *options: str, engine: str = "echo", image: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Do the same without waiting for anything."""
        command: list[str | Path] = [
            RAYPROXY,
            "deploy",
            f"--name={NAME}",
            f"--image={image or self.image}",
            f"--namespace={self.namespace}",
        ]
        command += [*SMALL, *ECHO, f"--model-name={model}", f"--env=SERVING_ENGINE={engine}"]
        command += ["--image-pull-policy=Never"] if self.running.own else []
        command += options
        environment = {**os.environ, "KUBECONFIG": str(self.running.kubeconfig)}
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)

    def asked(self) -> str:
        """Return the status of one answer of the model's."""
        return ask(self.proxy, ROUTE)

    def model(self) -> str:
        """Return the name that the model goes by now, or nothing where it does not say so at once."""
        try:
            answer = request(self.proxy, f"{ROUTE}/v1/models")
        except TimeoutError:  # Ray Serve is about to put another replica into the place of the one
            return ""
        return str(answer.json["data"][0]["id"]) if answer.status == 200 else ""

    def known(self) -> Manifest:
        """Return the fields that this cluster's RayService may have."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayservices.ray.io"
        return rayservice_schema(self.running.server.call("GET", path))["properties"]["spec"]["properties"]

    def spec(self) -> Manifest:
        """Return what the RayService says now."""
        return self.running.server.call("GET", self._path)["spec"]

    def status(self) -> Manifest:
        """Return what KubeRay says of the RayService now."""
        return self.running.server.call("GET", self._path).get("status") or {}

    def patch(self, spec: Manifest) -> None:
        """Change the RayService as anybody may, past `rayproxy deploy`."""
        self.running.server.call("PATCH", self._path, {"spec": spec}, MERGE)

    def scale(self, replicas: int) -> None:
        """Scale the workers of the RayCluster that serves."""
        cluster = self.running.server.call("GET", self._path)["status"]["activeServiceStatus"]["rayClusterName"]
        path = f"/apis/ray.io/v1/namespaces/{self.namespace}/rayclusters/{cluster}"
        fields = ("maxReplicas", "minReplicas", "replicas")
        patch = [{"op": "replace", "path": f"/spec/workerGroupSpecs/0/{each}", "value": replicas} for each in fields]
        self.running.server.call("PATCH", path, patch, "application/json-patch+json")

    @property
    def _path(self) -> str:
        return f"/apis/ray.io/v1/namespaces/{self.namespace}/rayservices/{NAME}"

    def pods(self, part: str) -> list[Manifest]:
        """Return the model's pods of a part, head or worker, that are not on their way out."""
        pods = self.running.pods(self.namespace)
        return [pod for pod in pods if pod["metadata"]["labels"].get("ray.io/node-type") == part]

    def workers(self) -> list[Manifest]:
        """Return the pods that are a model's workers, and not on their way out."""
        return self.pods(WORKER)

    def kill(self, pod: Manifest) -> None:
        """End a pod at once, and let another one take its place."""
        named = pod["metadata"]
        self.running.kubectl("-n", named["namespace"], "delete", "pod", named["name"], "--grace-period=0", "--force")

    def roll(self) -> None:
        """Have another two replicas of the proxy, one after the other.

        They have counted no change of the model. Twenty scenarios in half an hour change one more often than is free
        of a wait: it would be rejected for that, with 503, where that is not what is shown.
        """
        before = {pod["metadata"]["name"] for pod in self.running.pods("rayproxy")}
        self.running.kubectl("-n", "rayproxy", "rollout", "restart", "deployment/rayproxy")
        until("two new pods", lambda: self._rolled(before), LONG, 0.5)

    def _rolled(self, before: set[str]) -> bool:
        names = {pod["metadata"]["name"] for pod in self.running.pods("rayproxy")}
        return len(names) == 2 and not names & before and ready(self.running) == 2

    def replaced(self, part: str, before: list[Manifest]) -> bool:
        """Tell whether as many other pods of a part are there, and ready."""
        names = {pod["metadata"]["name"] for pod in before}
        now = self.pods(part)
        return len(now) == len(before) and all(pod["metadata"]["name"] not in names and is_ready(pod) for pod in now)

    def begun(self, pods: list[Manifest] | None = None) -> list[str]:
        """Return when the containers of pods began, of the workers by default."""
        statuses = [each for pod in pods or self.workers() for each in pod["status"].get("containerStatuses", [])]
        return [each["state"].get("running", {}).get("startedAt", "") for each in statuses]

    @contextmanager
    def only_on(self, node: str) -> Iterator[None]:
        """Let no pod begin on another node."""
        others = {each["metadata"]["name"] for each in self.nodes()} - {node}
        for each in others:
            self.running.kubectl("cordon", each)
        try:
            yield
        finally:
            for each in others:
                self.running.kubectl("uncordon", each)

    def nodes(self) -> list[Manifest]:
        """Return the cluster's nodes."""
        return self.running.server.call("GET", "/api/v1/nodes")["items"]

    def worker_on(self, node: str) -> None:
        """Have the one worker on a node, and answering."""
        (worker,) = self.workers()
        if worker["spec"]["nodeName"] == node:
            return
        with self.only_on(node):
            self.kill(worker)
            until(f"a worker on {node}", lambda: self.replaced(WORKER, [worker]), LONG, 0.5)
        until("it answers", lambda: self.asked() == ANSWERED, LONG, 0.2)

    def evict(self, node: str) -> None:
        """Ask all pods to leave a node, as `kubectl drain` does, and wait for none."""
        for pod in self.running.server.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={node}")["items"]:
            until(f"{pod['metadata']['name']} may leave", lambda pod=pod: self._evicted(pod["metadata"]), LONG, 1.0)

    def _evicted(self, pod: Manifest) -> bool:
        named = {"name": pod["name"], "namespace": pod["namespace"]}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": named}
        path = f"/api/v1/namespaces/{pod['namespace']}/pods/{pod['name']}/eviction"
        try:
            self.running.server.call("POST", path, eviction)
        except ApiProblem as problem:
            return problem.status == 404  # 429: its PodDisruptionBudget says not yet
        return True


def restricted(running: Running) -> str:
    """Have a namespace that takes no pod but under Pod Security's strictest rules; it keeps the model's name."""
    with suppress(ApiProblem):  # it is there already
        running.server.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    running.server.call("PATCH", f"/api/v1/namespaces/{NAMESPACE}", RESTRICTED, MERGE)
    return NAMESPACE


def is_ready(pod: Manifest) -> bool:
    """Tell whether a pod is ready by its own probes."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


def ready(running: Running) -> int:
    """Return how many pods of deploy/ are ready by their own probes, both containers."""
    return sum(map(is_ready, running.pods("rayproxy")))
