"""NetworkPolicies enforced on the nodes of the tests' cluster, by kube-router's firewall and nothing else of it.

`ptp`, the nodes' network plugin, enforces none.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.node import Node

PARTS = ("--run-firewall=true", "--run-router=false", "--run-service-proxy=false")
WITH_ITS_PARENT = ("setpriv", "--pdeathsig", "KILL")  # which is nsenter, the only one known by its pid here
# The rules that lead to its chains, which are nobody's trouble then.
UNDO = r"iptables --wait -S | sed -n 's/^-A \(.* -j KUBE-ROUTER-[A-Z]*\)$/--wait -D \1/p' | xargs -r -L 1 iptables"


@contextmanager
def enforced(nodes: tuple[Node, ...], program: Path, kubeconfig: Path, services: str) -> Iterator[None]:
    """Have NetworkPolicies enforced until the end of the block; a moment passes before they are."""
    with ExitStack() as stack:
        for node in nodes:
            settings = f"--kubeconfig={kubeconfig}", f"--hostname-override={node.name}"
            stack.enter_context(_runs(node, [program, *PARTS, *settings, f"--service-cluster-ip-range={services}"]))
        yield


@contextmanager
def _runs(node: Node, command: list[str | Path]) -> Iterator[None]:
    with (node.folder / "kube-router.log").open("ab") as log:
        process = subprocess.Popen([*node.way_in, *WITH_ITS_PARENT, *command], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        subprocess.run([*node.way_in, "bash", "-c", UNDO], check=True)
