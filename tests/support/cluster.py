"""A whole cluster of the test's own: a control plane, DNS, KubeRay's released operator and two nodes with pods.

All of it runs in network namespaces of its own; this process enters the first node's, so that it reaches pods and
Services as a program on a node does. No port is anybody else's, and nothing gets out. A Redis is there as well.
RAYPROXY_TEST_KUBERAY names the operator's release.

What somebody has already can take its place: the cluster of a kubeconfig, whose programs are its owner's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.kube.login import connect_by_kubeconfig
from tests.support import deploy
from tests.support.apiserver import CACHE, VERSION, ApiProblem, Cluster, LocalApiServer, local_api_server
from tests.support.netns import joined
from tests.support.node import LONG, PLUGINS, Node, connect, node, start_containers, start_kubelet
from tests.support.waiting import until

ADDRESSES = {"one": ("10.99.0.1", "10.88.1.0/24"), "two": ("10.99.0.2", "10.88.2.0/24")}
FIRST = ADDRESSES["one"][0]  # where the control plane and DNS are
SERVICES = "10.96.0.0/16"
PORT = 6443  # where nearly everybody's API server listens, and whither deploy/'s NetworkPolicy lets the proxy
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
KUBERAY = os.environ.get("RAYPROXY_TEST_KUBERAY", "1.6.2")
OPERATOR = f"kuberay-{KUBERAY}"
BUILT = (*COMPONENTS, "etcd", "coredns", "kube-router", OPERATOR)
ASSETS = Path(os.environ.get("KUBEBUILDER_ASSETS") or CACHE / f"kubernetes-{VERSION}")
REDIS, PASSWORD = f"{FIRST}:6379", "of-the-tests"
COREFILE = """.:53 {{
    bind {address}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
"""
WITH_DNS = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'

Manifest = dict[str, Any]


def missing() -> str:
    """Say what a cluster would need that is not here, or nothing."""
    if os.geteuid() != 0:
        return "only root can make a cluster"
    if absent := [name for name in BUILT if not (ASSETS / name).exists()]:
        return f"{', '.join(absent)} not in {ASSETS}: `make test-cluster` builds it, once, in about 30 minutes"
    needed = ("containerd", "runc", "ip", "iptables", "ipset", "redis-server")
    if absent := [name for name in needed if not shutil.which(name)]:
        return f"no {', '.join(absent)} here: `make test-cluster` installs it"
    if not Path(PLUGINS, "ptp").exists():
        return "no network plugins here: `make test-cluster` installs Debian's containernetworking-plugins"
    return ""


@dataclass
class Program:
    """A program that may run; its words go to a file."""

    command: list[Any]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)

    def stop(self) -> None:
        """End it, where it runs."""
        if self.process:
            self.process.terminate()
            self.process.wait(30)
            self.process = None


@dataclass(frozen=True)
class Own:
    """What runs a cluster of the test's own."""

    server: LocalApiServer
    nodes: tuple[Node, ...]
    operator: Program


@dataclass(frozen=True)
class Running:
    """Speak to a running cluster; `own` is None where it is somebody's."""

    server: Cluster
    kubeconfig: Path
    own: Own | None = None

    def kubectl(self, *arguments: str, manifests: list[Manifest] | None = None) -> str:
        return deploy.kubectl(self.kubeconfig, *arguments, manifests=manifests)

    def pods(self, namespace: str) -> list[Manifest]:
        """Return the pods that are not on their way out."""
        found = self.server.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


class Existing(Cluster):
    """The API server of a kubeconfig, whoever its user is."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(url="")
        self._api: ApiServer = connect_by_kubeconfig(str(kubeconfig), None)

    def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        try:
            return self._api.get(path) if method == "GET" else self._api.send(method, path, body, None, content_type)
        except ApiError as error:
            raise ApiProblem(error.status, str(error)) from error


@contextmanager
def cluster(images: Path) -> Iterator[Running]:
    """Run a cluster until the end of the block; its nodes have the images of a file that `docker save` wrote."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rayproxy-cluster-")))
        nodes = tuple(
            stack.enter_context(node(name, address, pods, FIRST, folder / name))
            for name, (address, pods) in ADDRESSES.items()
        )
        connect(*nodes)
        for each in nodes:  # its cable stays where it is when a node is powered off
            stack.enter_context(Path(f"/proc/{each.pid}/ns/net").open("rb"))
        stack.enter_context(joined(nodes[0].pid))
        server = stack.enter_context(local_api_server(_flags(), port=PORT))
        kubeconfig = server.kubeconfig(folder, url=f"https://{FIRST}:{server.port}")
        own = Own(server, nodes, _operator(kubeconfig, folder))
        running = Running(server, kubeconfig, own)
        for name, command in _programs(server, kubeconfig, folder).items():
            stack.enter_context(_runs(Program(command, folder / f"{name}.log")))
        for each in nodes:
            start_containers(each, images)
            start_kubelet(each, ASSETS, kubeconfig)
        until(f"the nodes are ready; the logs are in {folder}", lambda: _ready(server) == len(nodes), LONG, 0.5)
        for path in sorted((ASSETS / OPERATOR / "crds").iterdir()):
            running.kubectl("apply", "--server-side", "-f", str(path))
        stack.enter_context(_runs(own.operator))
        yield running


@contextmanager
def _runs(program: Program) -> Iterator[None]:
    program.start()
    try:
        yield
    finally:
        program.stop()


def _flags() -> tuple[str, ...]:
    return (
        "--bind-address=0.0.0.0",
        f"--advertise-address={FIRST}",
        f"--service-cluster-ip-range={SERVICES}",
        "--endpoint-reconciler-type=lease",
        "--kubelet-preferred-address-types=InternalIP",
        # Pods wait 300 s by default for a node that has gone.
        "--default-not-ready-toleration-seconds=10",
        "--default-unreachable-toleration-seconds=10",
    )


def _programs(server: LocalApiServer, kubeconfig: Path, folder: Path) -> dict[str, list[Any]]:
    """Return the commands of what runs besides the API server, by name."""
    (folder / "Corefile").write_text(COREFILE.format(address=FIRST, kubeconfig=kubeconfig))
    known = [f"--kubeconfig={kubeconfig}", "--leader-elect=false"]
    return {
        "kube-controller-manager": [
            ASSETS / "kube-controller-manager",
            *known,
            "--node-monitor-grace-period=30s",
            f"--service-account-private-key-file={server.folder / 'sa.key'}",
            f"--root-ca-file={server.folder / 'certs/apiserver.crt'}",
        ],
        "kube-scheduler": [ASSETS / "kube-scheduler", *known],
        "coredns": [ASSETS / "coredns", "-conf", folder / "Corefile"],
        "redis-server": ["redis-server", "--bind", FIRST, "--requirepass", PASSWORD, "--save", "", "--dir", folder],
    }


def _operator(kubeconfig: Path, folder: Path) -> Program:
    """Return KubeRay's operator, which finds Services by the cluster's DNS as it does in a pod."""
    names = folder / "resolv.conf"
    names.write_text(f"nameserver {FIRST}\nsearch svc.cluster.local cluster.local\noptions ndots:5\n")
    operator = [ASSETS / OPERATOR / "ray-operator", "-enable-leader-election=false", f"-kubeconfig={kubeconfig}"]
    operator.append("-feature-gates=RayServiceIncrementalUpgrade=true")
    return Program(["unshare", "--mount", "bash", "-c", WITH_DNS, names, *operator], folder / "ray-operator.log")


def _ready(server: Cluster) -> int:
    """Return how many nodes are."""
    try:
        nodes = server.call("GET", "/api/v1/nodes")["items"]
    except ApiProblem:
        return 0
    conditions = [each for node in nodes for each in node["status"].get("conditions", [])]
    return sum(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


if __name__ == "__main__":  # `make` builds it before the tests begin
    build = Path(__file__).parent / "build-cluster.sh"
    subprocess.run(["bash", build, VERSION, KUBERAY, ASSETS], check=True)
