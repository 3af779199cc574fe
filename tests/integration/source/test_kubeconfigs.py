"""Kubeconfigs mean what they mean to kubectl: which file counts, and who one is to the API server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayproxy.checkpoint.connect import connect
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.kube import login
from rayproxy.kube.api import LEAST_PAUSE, ApiError, ApiServer
from rayproxy.kube.login import from_kubeconfig, namespace_of
from rayproxy.kube.session import CredentialsError, Login
from tests.support.certificates import certificate
from tests.support.scripted import ScriptedApi, raw, refuse


def kubeconfig(folder: Path, name: str, current: str | None = None, server: str = "", **user: Any) -> Path:
    """Write a kubeconfig whose context, cluster, user and namespace are all called like its file."""
    said = {
        "clusters": [{"name": name, "cluster": {"server": server or f"https://{name}.example"}}],
        "users": [{"name": name, "user": user or {"token": f"token-of-{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": name}}],
    }
    path = folder / name
    path.write_text(yaml.safe_dump(said if current is None else said | {"current-context": current}))
    return path


def joined(*paths: Path | str) -> str:
    return os.pathsep.join(map(str, paths))


@pytest.mark.fault(157)
@pytest.mark.parametrize(
    ("first", "second", "meant"),
    [("a", "b", "a"), ("a", None, "a"), ("a", "", "a"), ("", "b", "b"), (None, "b", "b"), ("b", "a", "b")],
)
def test_of_several_files_the_first_that_names_a_current_context_is_obeyed(
    folder: Path, first: str | None, second: str | None, meant: str
):
    files = joined(kubeconfig(folder, "a", first), folder / "none", kubeconfig(folder, "b", second))
    login = from_kubeconfig(files, None)
    assert (login.host, login.authorization) == (f"https://{meant}.example", f"Bearer token-of-{meant}")
    assert namespace_of(files, None) == meant
    assert from_kubeconfig(files, "a").host == "https://a.example"


@pytest.mark.fault(157)
def test_what_two_files_call_alike_is_the_first_ones(folder: Path):
    (folder / "other").mkdir()
    first, second = kubeconfig(folder, "a", "a"), kubeconfig(folder / "other", "a", "a", "https://other.example")
    assert from_kubeconfig(joined(first, second), None).host == "https://a.example"
    assert from_kubeconfig(joined(second, first), None).host == "https://other.example"


@pytest.mark.fault(157)
def test_what_a_file_says_of_paths_is_relative_to_that_file(folder: Path):
    (folder / "other").mkdir()
    (folder / "other" / "token").write_text("two")
    second = kubeconfig(folder / "other", "b", "b", tokenFile="token")
    assert from_kubeconfig(joined(kubeconfig(folder, "a"), second), None).authorization == "Bearer two"


@pytest.mark.parametrize("ask", [from_kubeconfig, namespace_of])
def test_where_no_file_names_a_current_context_or_has_the_one_that_is_asked_for_that_is_said(folder: Path, ask):
    files = joined(kubeconfig(folder, "a"), kubeconfig(folder, "b", ""))
    with pytest.raises(CredentialsError, match="it names no current context"):
        ask(files, None)
    with pytest.raises(CredentialsError, match="it has no context 'nowhere'"):
        ask(files, "nowhere")


@pytest.mark.fault(160)
@pytest.mark.parametrize("nothing", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_beside_one_that_says_something_is_passed_over(folder: Path, nothing: str):
    empty, full = folder / "empty", kubeconfig(folder, "a", "a")
    empty.write_text(nothing)
    for files in (joined(empty, full), joined(full, empty)):
        assert from_kubeconfig(files, None).host == "https://a.example"
        assert namespace_of(files, None) == "a"


def test_files_that_are_all_empty_are_said_to_be(folder: Path):
    for name in ("a", "b"):
        (folder / name).touch()
    with pytest.raises(CredentialsError, match="cannot be used: there is nothing in it"):
        from_kubeconfig(joined(folder / "a", folder / "b"), None)


@pytest.mark.fault(160)
@pytest.mark.parametrize(
    "secret", ['"s3cr3t', "s3cr3t: t", '{"s3cr3t', "%s3cr3t", "*s3cr3t", "!s3cr3t", '"s3cr3t\\q"']
)
def test_what_is_wrong_with_a_kubeconfig_is_said_without_what_stands_in_it(folder: Path, secret: str):
    """It is in the log as well: one that is being written ends in the middle of a token."""
    path = folder / "a"
    path.write_text(f"users:\n- name: a\n  user:\n    password: {secret}")
    with pytest.raises(CredentialsError, match=r"/a is no YAML in line 4, column [0-9]+\. Set KUBECONFIG") as error:
        from_kubeconfig(str(path), None)
    assert "s3cr3t" not in str(error.value)


@pytest.mark.fault(160)
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"insecure-skip-tls-verify": "false"}, "its insecure-skip-tls-verify is neither true nor false"),
        ({"insecure-skip-tls-verify": 0}, "its insecure-skip-tls-verify is neither true nor false"),
        ({"tls-server-name": 1}, "its tls-server-name is not text"),
        ({"proxy-url": 3128}, "its proxy-url is not text"),
        ({"proxy-url": ["http://proxy"]}, "its proxy-url is not text"),
        ({"server": 1}, "its server is not text"),
    ],
)
def test_what_kubectl_does_not_take_of_a_cluster_is_refused_and_ends_no_client(
    folder: Path, api: ScriptedApi, said: dict[str, Any], words: str
):
    """To the `kubernetes` package "false" is true: the token would go to whoever answers."""
    path = kubeconfig(folder, "a", "a", api.url)
    server = ApiServer(partial(from_kubeconfig, str(path), None), 0.0)
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"] |= said
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(CredentialsError, match=words):
        from_kubeconfig(str(path), None)
    server.get("/api/v1/namespaces")
    assert words in server._sessions.failure


@pytest.mark.fault(160)
@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ({"certificate-authority": "ca.crt"}, "https"),
        ({"insecure-skip-tls-verify": True}, "https"),
        ({"insecure-skip-tls-verify": False}, "http"),
        ({}, "http"),
    ],
)
def test_a_server_without_a_scheme_is_spoken_to_as_kubectl_does(folder: Path, said: dict[str, Any], scheme: str):
    """Where it has a CA that is TLS: the token would go over the wire for all to read."""
    shutil.copy(certificate(folder, "api", "IP:127.0.0.1")[0], folder / "ca.crt")
    path = kubeconfig(folder, "a", "a", "127.0.0.1:6443")
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"] |= said
    path.write_text(yaml.safe_dump(config))
    assert from_kubeconfig(str(path), None).host == f"{scheme}://127.0.0.1:6443"


@pytest.mark.fault(160)
@pytest.mark.parametrize("said", ['{clusters: null, contexts: null, users: null, current-context: ""}', None])
def test_in_a_pod_one_that_names_no_current_context_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
):
    (folder / "namespace").write_text("here")
    monkeypatch.setattr(login, "OWN_NAMESPACE", folder / "namespace")
    monkeypatch.setattr(login, "in_cluster", lambda: Login("https://own.example"))
    path = kubeconfig(folder, "a")
    if said:
        path.write_text(said)
    monkeypatch.setenv("KUBECONFIG", str(path))
    server, namespace = connect(None, None)
    assert (server._sessions.current.login.host, namespace) == ("https://own.example", "here")
    with pytest.raises(RefusedError, match="it names no current context"):
        connect(str(path), None)
    path.write_text("current-context: nowhere")
    with pytest.raises(RefusedError, match="it has no context 'nowhere'"):
        connect(None, None)


@pytest.mark.fault(160)
def test_the_environment_is_read_when_it_is_needed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / ".kube").mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    kubeconfig(folder / ".kube", "config", "config")
    assert from_kubeconfig(None, None).host == "https://config.example"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(folder, "a", "a")))
    assert from_kubeconfig(None, None).host == "https://a.example"
    assert namespace_of(None, None) == "a"


@pytest.mark.fault(160)
def test_a_kubeconfig_variable_that_is_empty_means_the_file_at_home(folder: Path, api: ScriptedApi):
    (folder / ".kube").mkdir()
    kubeconfig(folder / ".kube", "config", "config", api.url)
    command = [sys.executable, "-m", "rayproxy", "undeploy", "nothing"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": ""}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False).stderr
    assert [seen.headers["authorization"] for seen in api.seen][:1] == ["Bearer token-of-config"], said


def test_a_command_asks_a_server_again_that_has_no_time_now(folder: Path, api: ScriptedApi):
    """As one says whose CRD has just been installed, or who has just started: "storage is (re)initializing"."""
    path = str(kubeconfig(folder, "a", "a", api.url))
    server, _ = connect(path, None)
    api.always = lambda seen: refuse(429, Retry_After="0") if len(api.seen) < 3 else raw(b"{}")
    began = time.monotonic()
    assert server.get("/version") == {}
    assert len(api.seen) == 4
    assert time.monotonic() - began >= 3 * LEAST_PAUSE  # "at once" is not taken at its word
    for words in ({"Retry_After": "3600"}, {"Retry_After": "nan"}, {}):
        api.always = lambda seen, words=words: refuse(429, "too many", **words)
        with pytest.raises(ApiError, match="429 too many"):
            server.get("/version")
