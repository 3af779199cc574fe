"""A pod on a Docker engine, made from the pod template of deploy/ as kubelet would make it.

Image, command, user, capabilities, mounts and environment are read from the rendered Deployment. The containers
share the host's network, so that they reach the API server and the ClusterIPs on loopback; the ports are the test's.
Or they have a network of their own, empty at first, and listen where the image says.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker.errors
from testcontainers.core.container import DockerContainer

from tests.support.deploy import Manifest, containers, one
from tests.support.http import Answer, free_port, request
from tests.support.waiting import until

LONG = 120  # s; a container start on a busy machine


@dataclass(frozen=True)
class Identity:
    """Hold what a pod of the ServiceAccount finds in its token's folder, and where the API server is."""

    token: str
    ca: bytes
    namespace: str
    host: str
    port: int


@dataclass
class Pod:
    """Run the containers of a rendered Deployment; `image` is what `rayproxy` stands for."""

    manifests: list[Manifest]
    image: str
    identity: Identity
    settings: dict[str, str] = field(default_factory=dict)
    running: dict[str, DockerContainer] = field(default_factory=dict)
    own_network: bool = False
    host: str = "127.0.0.1"  # where it is asked

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rp-pod-"))
        self.folder.chmod(0o755)
        self.deployment = one(self.manifests, "Deployment")
        self.spec = self.deployment["spec"]["template"]["spec"]
        self.port, self.admin_port = (8080, 9090) if self.own_network else (free_port(), free_port())
        for volume in self.spec["volumes"]:
            self._make_volume(volume)

    def _make_volume(self, volume: Manifest) -> None:
        folder = self.folder / volume["name"]
        folder.mkdir()
        if "emptyDir" in volume:
            folder.chmod(0o777)  # as kubelet makes it
            return
        for source in volume["projected"]["sources"]:
            if token := source.get("serviceAccountToken"):
                self._write(folder / token["path"], self.identity.token.encode())
            elif source.get("configMap", {}).get("name") == "kube-root-ca.crt":
                self._write(folder / "ca.crt", self.identity.ca)
            else:
                self._write(folder / "namespace", self.identity.namespace.encode())

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        path.chmod(0o600)
        with suppress(PermissionError):  # readable by the pod's user alone, where the tests run as root
            shutil.chown(path, self.spec["securityContext"]["runAsUser"])
            return
        path.chmod(0o644)

    def start(self) -> Pod:
        """Start all of it and wait until the daemon is ready."""
        self.start_processes()
        self.run("init")
        self.start_container("nginx")
        self.start_container("rayproxy")
        until(f"the pod is ready:\n{self.logs('rayproxy')}", self.is_ready, LONG)
        return self

    def start_processes(self) -> None:
        """Start what holds the shared process namespace, as the pause container does."""
        assert self.spec["shareProcessNamespace"]
        network = "none" if self.own_network else "host"
        pause = DockerContainer(self.image, network_mode=network, entrypoint="sleep").with_command("infinity")
        self.running["pause"] = pause
        pause.start()

    def run(self, name: str) -> None:
        """Run an init container to its end."""
        container = self._container(name)
        with container:
            assert container.wait() == 0, container.get_logs()

    def start_container(self, name: str) -> None:
        """Start a container that is started anew whenever it ends."""
        self.running[name] = self._container(name, restart_policy={"Name": "always"})
        self.running[name].start()

    def stop_container(self, name: str) -> None:
        """Stop a container as kubelet does: SIGTERM, and time to end."""
        container = self.running.pop(name)
        container.get_wrapped_container().stop(timeout=self.spec["terminationGracePeriodSeconds"])
        container.stop()

    def _container(self, name: str, **options: Any) -> DockerContainer:
        spec = containers(self.deployment)[name]
        pod, own = self.spec["securityContext"], spec["securityContext"]
        pause = f"container:{self.running['pause'].get_container_id()}"
        options |= {
            "network_mode": pause if self.own_network else "host",
            "pid_mode": pause,
            "user": f"{pod['runAsUser']}:{pod['runAsGroup']}",
            "read_only": own["readOnlyRootFilesystem"],
            "cap_drop": own["capabilities"]["drop"],
            "security_opt": [] if own["allowPrivilegeEscalation"] else ["no-new-privileges"],
        }
        if "command" in spec:
            options["entrypoint"] = spec["command"]
        container = DockerContainer(self.image, **options).with_envs(**self._environment(spec))
        if "args" in spec:
            container.with_command(spec["args"])
        for mount in sorted(spec["volumeMounts"], key=lambda mount: mount["mountPath"]):
            mode = "ro" if mount.get("readOnly") else "rw"
            container.with_volume_mapping(self.folder / mount["name"], mount["mountPath"], mode)
        return container

    def _environment(self, spec: Manifest) -> dict[str, str]:
        given: dict[str, str] = {}
        for source in spec.get("envFrom", []):
            given |= one(self.manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in spec.get("env", []):
            assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace"
            given[variable["name"]] = self.identity.namespace
        given |= {"KUBERNETES_SERVICE_HOST": self.identity.host, "KUBERNETES_SERVICE_PORT": str(self.identity.port)}
        if not self.own_network:
            given |= {
                "RAYPROXY_LISTEN": f"127.0.0.1:{self.port}",
                "RAYPROXY_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            }
        return given | self.settings

    def get(self, target: str, **options: Any) -> Answer:
        """Send a request to nginx."""
        return request((self.host, self.port), target, **options)

    def probe(self, target: str) -> int:
        """Return the status that the daemon's admin server gives, or 0."""
        try:
            return request((self.host, self.admin_port), target).status
        except OSError:
            return 0

    def is_ready(self) -> bool:
        return self.probe("/readyz") == 200

    def answers(self, name: str) -> bool:
        """Tell whether a route's upstream answers; nobody listening is a no."""
        try:
            return self.get(f"/apis/rayservice/{name}/").status == 200
        except OSError:
            return False

    def pid(self, name: str) -> int:
        """Return the host's pid of a container's first process."""
        container = self.running[name].get_wrapped_container()
        container.reload()
        return int(container.attrs["State"]["Pid"])

    def restarts(self, name: str) -> int:
        container = self.running[name].get_wrapped_container()
        container.reload()
        return int(container.attrs["RestartCount"])

    def shell(self, name: str, script: str) -> tuple[int, str]:
        """Run a shell script inside a container; return its exit code and what it printed."""
        code, output = self.running[name].exec(["sh", "-c", script])
        assert code is not None
        return code, output.decode()

    def logs(self, name: str) -> str:
        if name not in self.running:
            return ""
        return b"".join(self.running[name].get_logs()).decode(errors="replace")[-4000:]

    def close(self) -> None:
        """End and remove everything."""
        for name in reversed(list(self.running)):
            with suppress(docker.errors.NotFound):
                self.running[name].stop()
        shutil.rmtree(self.folder, ignore_errors=True)
