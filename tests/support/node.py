"""A whole Kubernetes node of the test's own: control plane, kubelet, kube-proxy and pods with addresses of their own.

All of it runs in a network namespace of its own, which this process enters: no port is anybody else's, and nothing
gets out. The containers are a Docker engine's, whose socket is reached from every namespace.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import yaml

from tests.support import deploy
from tests.support.apiserver import ApiProblem, Cluster, LocalApiServer, local_api_server
from tests.support.waiting import until

HERE = Path(__file__).parent
ADDRESS = "10.99.0.1"  # the node's
PODS = "10.88.0.0/24"
SERVICES = "10.96.0.0/16"
PAUSE = "k8s.gcr.io/pause:3.2"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
CLONE_NEWNET = 0x40000000
LONG = 240  # s; pods on a busy machine

Manifest = dict[str, Any]


def missing(assets: Path | None) -> str:
    """Say what a node would need that is not here, or nothing."""
    if os.geteuid() != 0:
        return "only root can make a node"
    if assets is None or not all((assets / name).exists() for name in COMPONENTS):
        return "kubelet and its companions are not built: `make test-node` does it, once, in about 10 minutes"
    if not Path("/usr/lib/cni/ptp").exists():
        return "the network plugins are missing: `make test-node` installs Debian's containernetworking-plugins"
    return ""


@contextmanager
def network_of_its_own() -> Iterator[None]:
    """Put this thread, and all that it starts, into a new network namespace for a while."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    try:
        for command in (
            "ip link set lo up",
            "ip link add node type bridge",
            f"ip address add {ADDRESS}/24 dev node",
            "ip link set node up",
            "ip route add default dev node",
            "sysctl -q -w net.ipv4.ip_forward=1",
        ):
            subprocess.run(command.split(), check=True)
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(before)


@dataclass
class Node:
    """Speak to a running node."""

    cluster: Cluster
    kubeconfig: Path
    engine: docker.DockerClient

    def kubectl(self, *arguments: str, manifests: list[Manifest] | None = None) -> str:
        return deploy.kubectl(self.kubeconfig, *arguments, manifests=manifests)

    def pods(self, namespace: str) -> list[Manifest]:
        """Return the pods that are not on their way out."""
        found = self.cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def container(self, pod: Manifest, name: str) -> docker.models.containers.Container:
        """Return the container that runs for a pod now."""
        labels = [f"io.kubernetes.pod.uid={pod['metadata']['uid']}", f"io.kubernetes.container.name={name}"]
        return self.engine.containers.list(filters={"label": labels})[0]

    def remove_containers(self) -> None:
        """Remove what kubelet has left, its own containers alone; what it is removing itself is waited for."""
        until("kubelet's containers are gone", lambda: self._remove_once() == 0, LONG, 0.2)

    def _remove_once(self) -> int:
        """Remove what is there; return how many were."""
        found = self.engine.containers.list(all=True, filters={"label": "io.kubernetes.pod.uid"}, ignore_removed=True)
        for container in found:
            with suppress(docker.errors.APIError):  # kubelet may be removing it at this moment
                container.remove(force=True)
        return len(found)


@contextmanager
def node(engine: docker.DockerClient, assets: Path) -> Iterator[Node]:
    """Run a node until the end of the block."""
    with ExitStack() as stack:
        stack.enter_context(network_of_its_own())
        server = stack.enter_context(
            local_api_server(
                flags=(
                    "--bind-address=0.0.0.0",
                    f"--advertise-address={ADDRESS}",
                    f"--service-cluster-ip-range={SERVICES}",
                    "--endpoint-reconciler-type=lease",
                    "--kubelet-preferred-address-types=InternalIP",
                )
            )
        )
        _make_pause(engine, server.folder)
        kubeconfig = server.kubeconfig(server.folder)
        mine = Node(server, kubeconfig, engine)
        stack.callback(_unmount, server.folder)
        stack.callback(mine.remove_containers)
        for name, arguments in _commands(server, kubeconfig).items():
            stack.enter_context(_running(assets / name, arguments, server.folder))
        stack.callback(_remove_pods, mine)
        until(f"the node is ready; the logs are in {server.folder}", lambda: _is_ready(server), LONG, 0.5)
        yield mine


def _make_pause(engine: docker.DockerClient, folder: Path) -> None:
    context = folder / "pause"
    context.mkdir()
    subprocess.run(["gcc", "-static", "-O1", "-o", context / "pause", HERE / "pause.c"], check=True)
    (context / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
    engine.images.build(path=str(context), tag=PAUSE)


def _commands(server: LocalApiServer, kubeconfig: Path) -> dict[str, list[str]]:
    folder = server.folder
    (folder / "cni").mkdir()
    (folder / "cni/10-pods.conf").write_text(json.dumps(_pod_network(folder)))
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_configuration()))
    known = f"--kubeconfig={kubeconfig}"
    return {
        "kube-controller-manager": [
            known,
            "--leader-elect=false",
            f"--service-account-private-key-file={folder / 'sa.key'}",
            f"--root-ca-file={folder / 'certs/apiserver.crt'}",
        ],
        "kube-scheduler": [known, "--leader-elect=false"],
        "kube-proxy": [
            known,
            "--hostname-override=node",
            "--proxy-mode=iptables",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
        "kubelet": [
            known,
            f"--config={folder / 'kubelet.yaml'}",
            f"--root-dir={folder / 'kubelet'}",
            "--hostname-override=node",
            f"--node-ip={ADDRESS}",
            f"--docker-endpoint={os.environ.get('DOCKER_HOST', 'unix:///var/run/docker.sock')}",
            "--container-runtime=docker",
            f"--pod-infra-container-image={PAUSE}",
            "--network-plugin=cni",
            f"--cni-conf-dir={folder / 'cni'}",
            f"--cni-cache-dir={folder / 'cni-cache'}",
            "--cni-bin-dir=/usr/lib/cni",
        ],
    }


def _pod_network(folder: Path) -> Manifest:
    ipam = {"type": "host-local", "subnet": PODS, "dataDir": str(folder / "ipam"), "routes": [{"dst": "0.0.0.0/0"}]}
    return {"cniVersion": "0.3.1", "name": "pods", "type": "ptp", "ipMasq": False, "ipam": ipam}


def _kubelet_configuration() -> Manifest:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},  # nobody else is in this network
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "0%"},
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "resolvConf": "",
        "syncFrequency": "10s",
    }


@contextmanager
def _running(program: Path, arguments: list[str], folder: Path) -> Iterator[None]:
    with (folder / f"{program.name}.log").open("ab") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _unmount(folder: Path) -> None:
    """Unmount what kubelet mounted below its folder: its pods' volumes, then the folder itself."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in reversed([path for path in mounted if path.startswith(str(folder))]):
        subprocess.run(["umount", path], check=True)


def _is_ready(cluster: Cluster) -> bool:
    try:
        conditions = cluster.call("GET", "/api/v1/nodes/node")["status"]["conditions"]
    except ApiProblem:
        return False
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _remove_pods(mine: Node) -> None:
    """Delete every pod at once, and wait until kubelet has let them go."""
    for pod in mine.cluster.call("GET", "/api/v1/pods")["items"]:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        mine.cluster.call("DELETE", path, {"gracePeriodSeconds": 0})
    mine.remove_containers()


def endpoints(cluster: Cluster, service: Manifest, port: int) -> None:
    """Let a Service lead to this process, as if a pod of a model listened there."""
    meta = service["metadata"]
    body = {
        "metadata": {"name": meta["name"]},
        "subsets": [{"addresses": [{"ip": ADDRESS}], "ports": [{"name": "serve", "port": port}]}],
    }
    cluster.call("POST", f"/api/v1/namespaces/{meta['namespace']}/endpoints", body)


def find_assets() -> Path | None:
    """Return the folder with the built components, if it is there."""
    from tests.support.apiserver import debian

    return debian() if debian().exists() and shutil.which("ip") else None
