"""The proxy between here and an API server: the same as kubectl's."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from kubernetes.config import incluster_config

from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.kube.login import from_kubeconfig, in_cluster
from rayproxy.kube.session import CredentialsError
from tests.support.http import free_port
from tests.support.reflecting import PATH, QUICK
from tests.support.scripted import ScriptedApi, kubeconfig

CORPORATE = "http://corporate.example:3128"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_other_proxy(monkeypatch: pytest.MonkeyPatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy():
    """Return what a proxy hears: of requests in plain text it is a server, asked for whole addresses."""
    made = ScriptedApi()
    yield made
    made.close()


def connect(folder: Path, url: str, **cluster: str) -> ApiServer:
    path = kubeconfig(folder, url, **cluster)
    return ApiServer(lambda: from_kubeconfig(str(path), None), 60.0, QUICK)


@pytest.mark.fault(135)
@pytest.mark.parametrize(
    ("server", "bypass", "proxied"),
    [
        ("https://api.example:6443", "", True),
        ("https://api.example:6443", "api.example", False),
        ("https://api.example:6443", ".example", False),
        ("https://api.example:6443", "other, example", False),
        ("https://api.example:6443", "api.example:6443", False),
        ("https://api.example:6443", "*", False),
        ("https://api.example:6443", "other, *.example", False),
        ("https://api.other:6443", "*.example", True),
        ("https://api.example:6443", "pi.example", True),
        ("https://10.96.0.1", "10.0.0.0/8", False),
        ("https://[fd00::1]:6443", "fd00::/8", False),
        ("https://11.96.0.1", "10.0.0.0/8", True),
        ("https://127.0.0.1:6443", "", False),
        ("https://[::1]:6443", "", False),
        ("https://localhost:6443", "", False),
        ("http://api.example", "", False),  # which is HTTP_PROXY's
    ],
)
def test_what_no_proxy_names_and_this_machine_itself_is_asked_without_the_environments_proxy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, server: str, bypass: str, *, proxied: bool
):
    monkeypatch.setenv("HTTPS_PROXY", CORPORATE)
    monkeypatch.setenv("NO_PROXY", bypass)
    login = from_kubeconfig(str(kubeconfig(folder, server)), None)
    assert login.proxy == (CORPORATE if proxied else "")


@pytest.mark.fault(135)
def test_so_it_is_in_a_pod_whose_variables_somebody_injects(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("token", "ca.crt"):
        (folder / name).write_text("x")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    for name, value in {"SERVICE_HOST": "10.96.0.1", "SERVICE_PORT": "443"}.items():
        monkeypatch.setenv(f"KUBERNETES_{name}", value)
    monkeypatch.setenv("HTTPS_PROXY", CORPORATE)
    assert in_cluster().proxy == CORPORATE
    monkeypatch.setenv("NO_PROXY", "10.96.0.0/12,.svc")
    assert in_cluster().proxy == ""


@pytest.mark.fault(135)
def test_a_kubeconfigs_own_proxy_is_taken_whatever_the_environment_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, proxy: ScriptedApi
):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "*")
    connect(folder, "http://127.0.0.1:1", proxy_url=proxy.url).get(PATH)
    assert [seen.path for seen in proxy.seen] == [PATH]


@pytest.mark.fault(135)
def test_only_the_variable_of_the_servers_scheme_counts(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("HTTP_PROXY", CORPORATE)
    assert from_kubeconfig(str(kubeconfig(folder, "https://api.example")), None).proxy == ""


def test_a_proxy_of_the_environment_needs_no_scheme(folder: Path, monkeypatch: pytest.MonkeyPatch, proxy: ScriptedApi):
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
    connect(folder, "http://api.example").get(PATH)
    assert proxy.seen[0].headers["host"] == "api.example"


def test_a_proxy_is_told_the_user_and_password_that_stand_in_its_address(folder: Path, proxy: ScriptedApi):
    connect(folder, "http://api.example", proxy_url=f"http://me:p%40ss%E5%AF%86@127.0.0.1:{proxy.port}").get(PATH)
    assert proxy.seen[0].headers["proxy-authorization"] == "Basic " + base64.b64encode("me:p@ss密".encode()).decode()


def test_a_proxy_that_does_not_answer_is_named_without_its_password(folder: Path):
    port = free_port()
    with pytest.raises(ApiError, match=f"at https://api.example by the proxy 127.0.0.1:{port}: ") as caught:
        connect(folder, "https://api.example", proxy_url=f"http://me:secret@127.0.0.1:{port}").get(PATH)
    assert "secret" not in str(caught.value)


@pytest.mark.fault(136)
@pytest.mark.parametrize(
    "address", ["socks5://me:secret@127.0.0.1:1080", "corporate:3128", "http://corporate:x", "http://"]
)
def test_a_proxy_that_cannot_be_used_is_refused_in_words(folder: Path, address: str):
    with pytest.raises(CredentialsError, match=r"https://api\.example .* http://HOST:PORT") as caught:
        connect(folder, "https://api.example", proxy_url=address)
    assert "secret" not in str(caught.value)


def test_a_proxy_that_is_another_one_now_is_taken_without_a_restart(folder: Path, proxy: ScriptedApi):
    path = kubeconfig(folder, "http://api.example", proxy_url=f"http://127.0.0.1:{free_port()}")
    server = ApiServer(lambda: from_kubeconfig(str(path), None), 0.0, QUICK)
    kubeconfig(folder, "http://api.example", proxy_url=proxy.url)
    server.get(PATH)
    assert len(proxy.seen) == 1
