"""A real Kubernetes API server for the tests, with ClusterIPs that are loopback addresses.

Found in this order: KUBEBUILDER_ASSETS (a folder with etcd and kube-apiserver, as controller-runtime's envtest has
it); built once by this machine's Go from the module k8s.io/kubernetes, of the version that RAYPROXY_TEST_KUBERNETES
names; a Docker engine that can run K3S; as the last resort Kubernetes 1.20, built once from Debian's source package.
ClusterIPs lie in 127.96.0.0/16, so an upstream that listens on 0.0.0.0 answers on each of them, without kube-proxy.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
import yaml

from tests.support.http import free_port
from tests.support.waiting import until

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rayproxy"
TODAY = "1.37.2"  # kubernetes/go.mod pins it
DEBIAN = "1.20.2"
VERSION = os.environ.get("RAYPROXY_TEST_KUBERNETES", TODAY)
CANNOT = 3  # exit code of the build where this machine has no Go for it
K3S_IMAGE = "rancher/k3s:v1.34.1-k3s1"
SERVICE_RANGE = "127.96.0.0/16"
ADMIN_TOKEN = "admin-of-the-tests"
CRD_NAME = re.compile(r'\bname"?: *"?([a-z]+\.(?:ray\.io|serving\.kserve\.io))\b')
# As every client does: a kind that was installed a moment ago is "(re)initializing", for a second.
BUSY = urllib3.Retry(
    None, connect=0, read=0, redirect=0, other=0, status=10, status_forcelist=(429,), allowed_methods=None,
    raise_on_status=False,
)  # fmt: skip
CEL = (1, 25)  # the first version that has x-kubernetes-validations switched on


@functools.cache
def binaries() -> Path | None:
    """Return the folder of etcd and kube-apiserver; build them where that is needed. None means Docker."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        return Path(assets)
    if VERSION != DEBIAN:
        folder = CACHE / f"kubernetes-{VERSION}"
        build = subprocess.run(["bash", str(HERE / "build-kubernetes.sh"), VERSION, str(folder)], check=False)
        if build.returncode == 0:
            return folder
        if build.returncode != CANNOT or "RAYPROXY_TEST_KUBERNETES" in os.environ:
            raise RuntimeError(f"Kubernetes {VERSION} was not built: its words are above")
        if _docker_can_run(K3S_IMAGE):
            return None
    subprocess.run(["bash", str(HERE / "build-kube-apiserver.sh"), str(debian())], check=True)
    return debian()


def debian() -> Path:
    """Return the folder in which Kubernetes 1.20 is built."""
    return CACHE / f"kubernetes-{DEBIAN}"


def _docker_can_run(image: str) -> bool:
    if shutil.which("docker") is None:
        return False
    pull = subprocess.run(["docker", "pull", "-q", image], capture_output=True, check=False, timeout=300)
    return pull.returncode == 0


class ApiProblem(Exception):
    """Say what the API server answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass
class Cluster:
    """Speak to an API server as its administrator."""

    url: str
    token: str = ADMIN_TOKEN
    ca: bytes | None = None
    _pool: urllib3.PoolManager = field(init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _put: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pool = urllib3.PoolManager(cert_reqs="CERT_NONE", retries=False, timeout=30)

    def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        response = self._pool.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": content_type},
            retries=BUSY,
        )
        answer = json.loads(response.data) if response.data.startswith(b"{") else {"message": response.data.decode()}
        if response.status >= 400:
            raise ApiProblem(response.status, answer.get("message", ""))
        return answer

    def is_up(self) -> bool:
        try:
            return (
                self._pool.request(
                    "GET", self.url + "/readyz", headers={"Authorization": f"Bearer {self.token}"}
                ).status
                == 200
            )
        except urllib3.exceptions.HTTPError:
            return False

    @functools.cached_property
    def version(self) -> tuple[int, int]:
        """Return major and minor version, as the server says them."""
        said = self.call("GET", "/version")
        return int(said["major"]), int(said["minor"].rstrip("+"))

    def namespace(self, prefix: str = "ns") -> str:
        """Create a namespace of a name that no other test has."""
        name = f"{prefix}-{os.getpid()}-{next(self._numbers)}-{time.monotonic_ns() % 10**6}"
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def install_crd(self, path: Path) -> None:
        """Install a CRD from a file, without what an old API server does not know; wait until it is served."""
        crd = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if self.version < CEL:
            crd = old_server_crd(crd)
        name = crd["metadata"]["name"]
        try:
            self.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        except ApiProblem as problem:
            if problem.status != 409:
                raise
        group, version = crd["spec"]["group"], crd["spec"]["versions"][0]["name"]
        until(f"{name} served", lambda: self.serves(f"/apis/{group}/{version}/{crd['spec']['names']['plural']}"))

    def put_crd(self, path: Path) -> None:
        """Install a CRD in the place of whatever is there under its name, unless that came from the same file."""
        name = CRD_NAME.search(path.read_text())
        assert name
        if self._put.get(name[1]) != path:
            self.remove_crd(name[1])
            self.install_crd(path)
            self._put[name[1]] = path

    def remove_crd(self, name: str) -> None:
        """Remove a CRD with its objects, where it is there, and wait until it is served no longer."""
        self._put.pop(name, None)
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        if not self.serves(path):
            return
        spec = self.call("GET", path)["spec"]
        self.call("DELETE", path)
        until(f"{name} is gone", lambda: not self.serves(path), 240)  # its objects go first
        served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        until(f"{name} is served no longer", lambda: not self.serves(served), 240)

    def serves(self, path: str) -> bool:
        try:
            self.call("GET", path)
        except ApiProblem:
            return False
        return True

    def kubeconfig(self, folder: Path, token: str | None = None, url: str | None = None) -> Path:
        """Write a kubeconfig for this API server, with the administrator's token or another."""
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": url or self.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "u", "user": {"token": token or self.token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(config))
        return path


def old_server_crd(node: Any) -> Any:
    """Take out what an API server of 1.20 cannot have: CEL rules, and list-map keys without a default."""
    if isinstance(node, list):
        return [old_server_crd(item) for item in node]
    if not isinstance(node, dict):
        return node
    drop = {"x-kubernetes-validations", "x-kubernetes-list-map-keys"}
    if "x-kubernetes-list-map-keys" in node:
        drop |= {"x-kubernetes-list-type"}
    return {key: old_server_crd(value) for key, value in node.items() if key not in drop}


# Without a controller manager no namespace gets the service account that its pods would be given.
PODLESS = ("--disable-admission-plugins=ServiceAccount",)


@dataclass
class LocalApiServer(Cluster):
    """Run etcd and kube-apiserver as processes of the tests; `flags` are added to the API server's."""

    url: str = ""
    folder: Path = Path()
    assets: Path = Path()
    flags: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    port: int = 0  # default: any

    def __post_init__(self) -> None:
        super().__post_init__()
        self.etcd_port, self.port = free_port(), self.port or free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._key = self.folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", str(self._key), "2048"], check=True, capture_output=True)
        rows = [f'{ADMIN_TOKEN},admin,admin,"system:masters"', *self.tokens]
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start what does not run, and wait until it answers."""
        if self._etcd is None:
            peer = free_port()
            self._etcd = self._spawn(
                "etcd",
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{self.etcd_port}",
                f"--advertise-client-urls=http://127.0.0.1:{self.etcd_port}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
            )
        if self._server is None:
            self._server = self._spawn(
                "kube-apiserver",
                f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
                f"--secure-port={self.port}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--cert-dir={self.folder / 'certs'}",
                f"--token-auth-file={self.folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self._key}",
                f"--service-account-signing-key-file={self._key}",
                f"--service-cluster-ip-range={SERVICE_RANGE}",
                "--endpoint-reconciler-type=none",
                *self.flags,
            )
        until(f"the API server answers; its log is {self.folder}/kube-apiserver.log", self.is_up, 180, 0.2)

    def stop(self) -> None:
        """End the API server and leave etcd."""
        self._server = _end(self._server)

    def kill(self) -> None:
        """End the API server without a chance to say anything, and leave etcd."""
        assert self._server
        self._server.kill()
        self._server.wait()
        self._server = None

    def close(self) -> None:
        """End both."""
        self.stop()
        self._etcd = _end(self._etcd)

    def compact(self) -> None:
        """Let etcd forget all history, so that every older resourceVersion is gone."""
        base = f"http://127.0.0.1:{self.etcd_port}/v3/kv"
        key = base64.b64encode(b"x").decode()
        seen = json.loads(self._pool.request("POST", f"{base}/range", body=json.dumps({"key": key})).data)
        revision = seen["header"]["revision"]
        answer = self._pool.request(
            "POST", f"{base}/compaction", body=json.dumps({"revision": revision, "physical": True})
        )
        assert answer.status == 200, answer.data

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(self.assets / name), *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def local_api_server(
    flags: tuple[str, ...] = PODLESS, tokens: tuple[str, ...] = (), port: int = 0
) -> Iterator[LocalApiServer]:
    """Run an API server of one's own, for no pods by default; its data lie in memory where there is a /dev/shm."""
    assets = binaries()
    if assets is None:
        import pytest

        pytest.skip("needs etcd and kube-apiserver as processes: set KUBEBUILDER_ASSETS")
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="rayproxy-api-", dir=shm))
    server = LocalApiServer(folder=folder, assets=assets, flags=flags, tokens=tokens, port=port)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def any_api_server() -> Iterator[Cluster]:
    """Run whichever API server this machine can have."""
    if binaries() is not None:
        with local_api_server() as server:
            yield server
        return
    from testcontainers.core.container import DockerContainer

    port = free_port()
    command = (
        f"server --disable-agent --https-listen-port={port} --service-cidr={SERVICE_RANGE} --cluster-dns=127.96.0.10"
        f" --kube-apiserver-arg=token-auth-file=/tokens.csv"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as tokens:
        tokens.write(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
        tokens.flush()
        container = DockerContainer(K3S_IMAGE, network_mode="host", privileged=True).with_command(command)
        with container.with_volume_mapping(tokens.name, "/tokens.csv"):
            cluster = Cluster(f"https://127.0.0.1:{port}")
            until("K3S answers", cluster.is_up, 120, 0.5)
            yield cluster


if __name__ == "__main__":  # `make` builds it before the tests begin, which would wait for it otherwise
    print(binaries() or K3S_IMAGE)
