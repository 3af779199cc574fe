"""A node of a cluster of the test's own: containerd, kubelet and kube-proxy.

It has namespaces of its own for processes, mounts and the network, so that its end takes along all that it started and
mounted. Its cgroups are the machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.netns import joined, set_up
from tests.support.waiting import until

Manifest = dict[str, Any]
PAUSE = "rayproxy-pause:cluster"
PLUGINS = "/usr/lib/cni"
LONG = 240.0  # s; pods on a busy machine
# The first process of a node: what ends without a parent is its child. Sockets and logs that have their places from
# of old are nobody else's.
FIRST = "mount -t tmpfs run /run && mount -t tmpfs log /var/log && { sleep infinity & wait; }"

CONTAINERD = """version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
disable_apparmor = true
disable_tcp_service = true
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{folder}/cni"
"""


@dataclass(frozen=True)
class Node:
    """A node that may be running; `pods` is the network of its pods, `dns` what they ask for names."""

    name: str
    address: str
    pods: str
    dns: str
    folder: Path
    pid: int
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def way_in(self) -> list[str | Path]:
        """Return the command that runs another one in this node."""
        spaces = Path(f"/proc/{self.pid}/ns")
        return [
            "nsenter",
            f"--net={spaces / 'net'}",
            f"--mount={spaces / 'mnt'}",
            f"--pid={spaces / 'pid_for_children'}",
        ]

    def run(self, command: list[str | Path]) -> None:
        """Let a command run until the node's end."""
        with (self.folder / f"{Path(command[0]).name}.log").open("ab") as log:
            started = subprocess.Popen([*self.way_in, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.started.append(started)

    def ctr(self, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        """Run containerd's own client."""
        client = ["ctr", f"--address={self.folder}/containerd.sock", "--namespace=k8s.io"]
        return subprocess.run([*self.way_in, *client, *arguments], check=False, capture_output=True)

    def power_off(self) -> None:
        """End all of it at once, with its cable pulled, so that nothing says so to anybody."""
        with joined(self.pid):
            set_up(*(f"ip link set {each} down" for each in _ends()))
        os.kill(self.pid, signal.SIGKILL)


def _ends() -> list[str]:
    """Return the names of the network's ends in this node; those of pods go with them."""
    listed = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    return [each["ifname"] for each in listed if each["ifname"] != "lo"]


@contextmanager
def node(name: str, address: str, pods: str, dns: str, folder: Path) -> Iterator[Node]:
    """Have a node, empty and without a network, until the end of the block; its folder goes with it."""
    folder.mkdir()
    spaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen([*spaces, "bash", "-c", FIRST])
    made = Node(name, address, pods, dns, folder, process.pid)
    try:
        until(f"node {name} is there", lambda: _mounted(process.pid))
        yield made
    finally:
        process.kill()
        for each in (process, *made.started):
            each.wait(60)
        groups = list(_groups(folder))
        until(f"the files of node {name} are gone", lambda: _removed(folder), LONG, 0.2)
        for group in groups:
            group.rmdir()


def _mounted(pid: int) -> bool:
    """Tell whether the mounts of the first process are made, as its parent sees them."""
    return " /var/log " in Path(f"/proc/{pid}/mounts").read_text()


def _groups(folder: Path) -> Iterator[Path]:
    """Yield the cgroups of the containers that ran at the end, which the machine would keep."""
    for container in folder.glob("state/io.containerd.runtime.v2.task/k8s.io/*"):
        for version in ("k8s.io", "*/k8s.io"):
            yield from Path("/sys/fs/cgroup").glob(f"{version}/{container.name}")


def _removed(folder: Path) -> bool:
    """Remove what a process that is just ending may still hold or write."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def connect(here: Node, there: Node) -> None:
    """Give each of two nodes the other one as its whole network; the interface to a node has its name."""
    ends = f"{there.name} netns {here.pid} type veth peer name {here.name} netns {there.pid}"
    subprocess.run(f"ip link add {ends}".split(), check=True)
    for own, other in ((here, there), (there, here)):
        with joined(own.pid):
            set_up(
                f"ip address add {own.address}/24 dev {other.name}",
                f"ip link set {other.name} up",
                f"ip route add {other.pods} via {other.address}",
                f"ip route add default dev {other.name}",  # a Service's address must lead somewhere too
                "sysctl -q -w net.ipv4.ip_forward=1",
            )


def start_containers(node: Node, images: Path) -> None:
    """Start containerd with the images of a file that `docker save` wrote."""
    (node.folder / "cni").mkdir()
    (node.folder / "cni/10-pods.conf").write_text(json.dumps(_pod_network(node)))
    configuration = node.folder / "containerd.toml"
    configuration.write_text(CONTAINERD.format(folder=node.folder, pause=PAUSE, plugins=PLUGINS))
    node.run(["containerd", "--config", configuration])
    until(f"containerd answers in {node.folder}", lambda: node.ctr("version").returncode == 0, LONG, 0.2)
    done = node.ctr("images", "import", images)
    assert done.returncode == 0, done.stderr.decode()


def _pod_network(node: Node) -> Manifest:
    routes = [{"dst": "0.0.0.0/0"}]
    ipam = {"type": "host-local", "subnet": node.pods, "dataDir": str(node.folder / "ipam"), "routes": routes}
    return {"cniVersion": "0.3.1", "name": "pods", "type": "ptp", "ipMasq": False, "ipam": ipam}


def start_kubelet(node: Node, assets: Path, kubeconfig: Path) -> None:
    """Make the node one of the cluster's."""
    configuration = node.folder / "kubelet.yaml"
    configuration.write_text(yaml.safe_dump(_kubelet_configuration(node)))
    known = f"--kubeconfig={kubeconfig}"
    name = f"--hostname-override={node.name}"
    node.run(
        [
            assets / "kubelet",
            known,
            name,
            f"--config={configuration}",
            f"--root-dir={node.folder / 'pods'}",
            f"--cert-dir={node.folder / 'certificates'}",
            f"--node-ip={node.address}",
        ]
    )
    settings = ("max-per-core", "tcp-timeout-established", "tcp-timeout-close-wait")
    kernel = [f"--conntrack-{each}=0" for each in settings]  # as they are: they are the machine's
    node.run([assets / "kube-proxy", known, name, "--proxy-mode=iptables", *kernel])


def _kubelet_configuration(node: Node) -> Manifest:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},  # nobody else is in this network
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "clusterDNS": [node.dns],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{node.folder}/containerd.sock",
        "enforceNodeAllocatable": [],
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "0%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "nodeLeaseDurationSeconds": 20,  # renewed each 5 s
        "oomScoreAdj": 0,
        "resolvConf": "",
        "syncFrequency": "10s",
    }
