"""Tokens and certificates that change under a client that goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from kubernetes.config import incluster_config

from rayproxy.kinds.rayservice import RAYSERVICES
from rayproxy.kube import login
from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.kube.login import from_kubeconfig, in_cluster, own_namespace
from rayproxy.kube.session import CredentialsError, Login
from rayproxy.sources.kubernetes import listed
from rayproxy.sources.reflector import Reflector
from tests.support.certificates import certificate
from tests.support.http import free_port
from tests.support.reflecting import FAST, PATH, QUICK, Diary
from tests.support.scripted import Reply, ScriptedApi, Seen, refuse
from tests.support.waiting import until

ALWAYS = 0.0  # s; read the login again for each request


class Pod:
    """The files that a kubelet keeps in a pod, and an API server that lets their token in."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, host: str = "127.0.0.1") -> None:
        self.folder, self.token, self.ca = folder, folder / "token", folder / "ca.crt"
        first = certificate(folder, "first", f"IP:{host}")
        self.api = ScriptedApi(tls=first, host=host)
        self.valid = {"one"}
        self.api.always = self._let_in
        self.token.write_text("one")
        self.ca.write_text(Path(first[0]).read_text())
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(self.api.port))
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(self.token))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(self.ca))

    def _let_in(self, seen: Seen) -> Reply | None:
        return None if seen.headers.get("authorization", "").split(" ")[-1] in self.valid else refuse(401)

    @property
    def tokens(self) -> list[str]:
        """Return the tokens that came, in their order."""
        return [seen.headers["authorization"].split(" ")[-1] for seen in self.api.seen]

    def client(self, refresh: float = 60.0) -> ApiServer:
        return ApiServer(in_cluster, refresh, QUICK)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = Pod(tmp_path, monkeypatch)
    yield made
    made.api.close()


def kubeconfig(path: Path, server: str, cluster: dict[str, str] | None = None, **user: str) -> Callable[[], Login]:
    """Write a kubeconfig and return what loads it."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))
    return partial(from_kubeconfig, str(path), None)


def test_an_api_server_of_ipv6_is_reached_and_its_certificate_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pod = Pod(tmp_path, monkeypatch, "::1")
    try:
        pod.client().get(PATH)
        assert pod.tokens == ["one"]
    finally:
        pod.api.close()


def test_the_token_is_sent_without_the_newline_at_its_end(pod: Pod):
    pod.token.write_text("one\n")
    pod.client().get(PATH)
    assert pod.api.seen[0].headers["authorization"].lower() == "bearer one"


@pytest.mark.fault(11)
def test_a_token_that_was_rotated_is_read_again_at_the_first_401_and_nobody_notices(pod: Pod):
    diary = Diary()
    reflector = Reflector(pod.client(), listed(RAYSERVICES, "", None), diary.wake, diary, FAST)
    pod.token.write_text("two")
    pod.valid = {"two"}
    assert reflector.refresh() == {}
    assert pod.tokens == ["one", "two"]
    assert diary.failures == []


@pytest.mark.fault(11)
def test_a_401_that_a_new_token_does_not_heal_is_an_error_after_one_more_try(pod: Pod):
    pod.valid = set()
    with pytest.raises(ApiError) as caught:
        pod.client().get(PATH)
    assert caught.value.status == 401
    assert len(pod.api.seen) == 2


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    "content", [None, "", " \n", "o\nne", "\x00", "tokén", "\ud800".encode("utf-8", "surrogatepass")]
)
def test_while_the_token_file_is_unusable_the_old_token_goes_on(pod: Pod, content: str | bytes | None):
    server = pod.client(ALWAYS)
    if content is None:
        pod.token.unlink()
    else:
        pod.token.write_bytes(content if isinstance(content, bytes) else content.encode())
    for _ in range(2):
        server.get(PATH)
    pod.token.write_text("two\n")
    pod.valid = {"two"}
    server.get(PATH)
    assert pod.tokens == ["one", "one", "two"]


@pytest.mark.fault(12)
@pytest.mark.parametrize("content", [None, "", "\n"])
def test_so_does_that_of_a_kubeconfig_that_names_a_token_file(api: ScriptedApi, tmp_path: Path, content: str | None):
    token = tmp_path / "token"
    token.write_text("one")
    load = kubeconfig(tmp_path / "config", api.url, tokenFile=str(token))
    server = ApiServer(load, ALWAYS, QUICK)
    token.unlink() if content is None else token.write_text(content)
    server.get(PATH)
    token.write_text("two")
    server.get(PATH)
    assert [seen.headers.get("authorization") for seen in api.seen] == ["Bearer one", "Bearer two"]


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    "text", ["", "clusters: [", "- a", "clusters: 7\nusers: x\n", "current-context: nowhere\n", "\x00"]
)
def test_a_kubeconfig_that_is_being_written_leaves_the_old_login(api: ScriptedApi, tmp_path: Path, text: str):
    path = tmp_path / "config"
    server = ApiServer(kubeconfig(path, api.url, token="one"), ALWAYS, QUICK)
    path.write_text(text)
    server.get(PATH)
    kubeconfig(path, api.url, token="two")
    server.get(PATH)
    assert [seen.headers["authorization"] for seen in api.seen] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("text", ["", "clusters: [", "- a", "current-context: nowhere\n"])
def test_a_kubeconfig_that_is_unusable_at_the_start_is_named(tmp_path: Path, text: str):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(CredentialsError, match=str(path)):
        ApiServer(partial(from_kubeconfig, str(path), None), 60.0)


@pytest.mark.parametrize("token", ["two\r\nX-Injected: 1", "tok\x7fen"])
def test_a_token_that_no_header_may_hold_is_refused_at_the_start(pod: Pod, token: str):
    pod.token.write_text(token)
    with pytest.raises(CredentialsError, match="token"):
        pod.client()


@pytest.mark.fault(13)
def test_a_new_ca_is_trusted_without_a_restart_and_the_old_one_no_longer(pod: Pod):
    server = pod.client(ALWAYS)
    server.get(PATH)
    second = certificate(pod.folder, "second")
    pod.api.present(second)
    pod.api.cut()
    with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
        server.get(PATH)
    pod.ca.write_text(Path(second[0]).read_text())
    server.get(PATH)
    assert len(pod.api.seen) == 2


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    "content", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "é"]
)
def test_while_the_ca_file_is_unusable_the_old_ca_goes_on(pod: Pod, content: str):
    server = pod.client(ALWAYS)
    pod.ca.write_text(content)
    server.get(PATH)
    assert len(pod.api.seen) == 1


def test_a_ca_that_is_unusable_at_the_start_is_told(pod: Pod):
    pod.ca.write_text("garbage")
    with pytest.raises(CredentialsError, match="cannot be used"):
        pod.client()


@pytest.mark.fault(54)
@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_wall_clock_that_jumps_neither_stops_nor_hastens_the_reading_of_the_token(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, jump: float
):
    reads = []

    def load():
        reads.append(pod.token.read_text())
        return in_cluster()

    rarely, often = ApiServer(load, 3600.0, QUICK), ApiServer(in_cluster, 0.2, QUICK)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    rarely.get(PATH)
    assert reads == ["one"]
    pod.token.write_text("two")
    pod.valid = {"one", "two"}
    until("the new token is used", lambda: often.get(PATH) and pod.tokens[-1] == "two")


def test_a_server_name_that_is_not_the_address_is_checked_against_the_certificate(tmp_path: Path):
    pair = certificate(tmp_path, "api", "DNS:api.example")
    api = ScriptedApi(tls=pair)
    try:
        trusted = {"certificate-authority": pair[0]}
        named = kubeconfig(tmp_path / "named", api.url, trusted | {"tls-server-name": "api.example"})
        ApiServer(named, 60.0, QUICK).get(PATH)
        with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
            ApiServer(kubeconfig(tmp_path / "plain", api.url, trusted), 60.0, QUICK).get(PATH)
    finally:
        api.close()


def test_a_client_certificate_is_shown(tmp_path: Path):
    server, person = certificate(tmp_path, "api"), certificate(tmp_path, "person")
    api = ScriptedApi(tls=server, clients=person[0])
    try:
        trusted = {"certificate-authority": server[0]}
        shown = {"client-certificate": person[0], "client-key": person[1]}
        ApiServer(kubeconfig(tmp_path / "a", api.url, trusted, **shown), 60.0, QUICK).get(PATH)
        with pytest.raises(ApiError):
            ApiServer(kubeconfig(tmp_path / "b", api.url, trusted), 60.0, QUICK).get(PATH)
        assert len(api.seen) == 1
    finally:
        api.close()


def test_a_token_whose_place_a_client_certificate_takes_is_sent_no_more(tmp_path: Path):
    pair, person = certificate(tmp_path, "api"), certificate(tmp_path, "person")
    api = ScriptedApi(tls=pair)
    api.always = lambda seen: refuse(401) if "authorization" in seen.headers else None
    try:
        trusted = {"certificate-authority": pair[0]}
        server = ApiServer(kubeconfig(tmp_path / "config", api.url, trusted, token="expired"), 60.0, QUICK)
        with pytest.raises(ApiError, match="401"):
            server.get(PATH)
        shown = {"client-certificate": person[0], "client-key": person[1]}
        kubeconfig(tmp_path / "config", api.url, trusted, **shown)
        server.get(PATH)
    finally:
        api.close()


def test_nobody_listening_is_an_error_that_names_the_server(tmp_path: Path, api: ScriptedApi):
    api.close()
    server = ApiServer(kubeconfig(tmp_path / "config", api.url), 60.0, QUICK)
    with pytest.raises(ApiError, match=f"GET {PATH} at {api.url}: .*refused") as caught:
        server.get(PATH)
    assert caught.value.status == 0


def checked(folder: Path, url: str) -> str:
    """Return what `rayproxy check` says of a login."""
    kubeconfig(folder / "config", url, token="one")
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(folder / "config")}
    environment |= {"RAYPROXY_STATE_DIR": str(folder / "state")}
    command = [sys.executable, "-m", "rayproxy", "check"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False).stdout


@pytest.mark.fault(11)
def test_check_says_that_a_login_is_refused_and_asks_nothing_that_would_be_refused_for_it(folder: Path):
    api = ScriptedApi(always=lambda _: refuse(401, "Unauthorized"))
    said = checked(folder, api.url)
    api.close()
    assert "FAIL  login to the API server: it is refused (GET /version: 401 " in said
    assert "renew it" in said.splitlines()[-1], said


@pytest.mark.fault(1)
def test_check_says_that_nobody_answers_and_does_not_take_it_for_missing_permissions(folder: Path):
    said = checked(folder, f"http://127.0.0.1:{free_port()}")
    assert "FAIL  login to the API server: no answer (GET /version at http://127.0.0.1:" in said
    assert "is the address right" in said.splitlines()[-1], said


def test_a_kubeconfig_that_is_not_there_is_named_as_such(folder: Path):
    with pytest.raises(CredentialsError, match=r"none cannot be used: there is no such file\. Set KUBECONFIG"):
        from_kubeconfig(str(folder / "none"), None)


def test_outside_of_a_pod_the_settings_that_want_a_namespace_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(login, "OWN_NAMESPACE", tmp_path / "namespace")
    with pytest.raises(CredentialsError, match="in RAYPROXY_NAMES_CONFIGMAP and RAYPROXY_REPLICAS_SERVICE"):
        own_namespace()
