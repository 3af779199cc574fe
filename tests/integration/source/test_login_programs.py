"""The login program that a kubeconfig names: what it gives, and what is said where it gives nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayproxy.checkpoint.connect import connect
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.kube import login
from rayproxy.kube.api import ApiServer, CredentialsError, Login
from rayproxy.kube.login import from_kubeconfig, namespace_of
from tests.support.certificates import certificate
from tests.support.reflecting import PATH, QUICK
from tests.support.scripted import ScriptedApi

ALWAYS = 0.0  # s; log in again for each request
V1 = "client.authentication.k8s.io/v1"
EXPIRED = "echo 'Error loading SSO Token: Token for x has expired' >&2; exit 255"


class Program:
    """A login program, and the kubeconfig that names it."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self.server = folder, server
        self.does("exit 9")

    def does(self, script: str) -> None:
        path = self.folder / "program"
        path.write_text(f'#!/bin/sh\necho run >> "{self.folder}/runs"\n{script}\n')
        path.chmod(0o755)

    def gives(self, version: str = V1, **status: str) -> None:
        (self.folder / "answer").write_text(
            json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
        )
        self.does(f'cat "{self.folder}/answer"')

    @property
    def runs(self) -> int:
        runs = self.folder / "runs"
        return len(runs.read_text().splitlines()) if runs.exists() else 0

    def kubeconfig(self, cluster: dict[str, Any] | None = None, **program: Any) -> Path:
        program = {"apiVersion": V1, "command": "./program", "interactiveMode": "IfAvailable"} | program
        said = {
            "clusters": [{"name": "c", "cluster": {"server": self.server, **(cluster or {})}}],
            "users": [{"name": "u", "user": {"exec": program}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = self.folder / "config"
        path.write_text(yaml.safe_dump(said))
        return path

    def load(self, cluster: dict[str, Any] | None = None, **program: Any) -> Callable[[], Login]:
        return partial(from_kubeconfig, str(self.kubeconfig(cluster, **program)), None)


@pytest.fixture
def program(folder: Path, api: ScriptedApi) -> Program:
    return Program(folder, api.url)


def test_its_token_is_sent_and_it_is_run_once(program: Program, api: ScriptedApi):
    program.gives(token="one")
    path = str(program.kubeconfig())
    ApiServer(partial(from_kubeconfig, path, None), 60.0, QUICK).get(PATH)
    assert namespace_of(path, None) == "default"
    assert api.seen[0].headers["authorization"] == "Bearer one"
    assert program.runs == 1


def test_it_is_given_its_arguments_and_variables_and_told_of_the_cluster(program: Program, api: ScriptedApi):
    program.does(
        f'echo "$1 $GREETING $KUBERNETES_EXEC_INFO" > "{program.folder}/told"; cat; '
        f"""echo '{{"apiVersion": "{V1}", "kind": "ExecCredential", "status": {{"token": "one"}}}}'"""
    )
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    program.load(
        {"extensions": [extension]},
        args=["hello"],
        env=[{"name": "GREETING", "value": "hi"}],
        provideClusterInfo=True,
    )()
    argument, variable, told = (program.folder / "told").read_text().split(" ", 2)
    assert (argument, variable) == ("hello", "hi")
    spec = json.loads(told)["spec"]
    assert (spec["cluster"]["server"], spec["cluster"]["config"]) == (api.url, {"audience": "x"})
    assert spec["interactive"] is False


@pytest.mark.fault(158)
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (EXPIRED, r"program ended with exit code 255: Error loading SSO Token: Token for x has expired\."),
        ("echo hello; echo 'no tty' >&2", r"program answered with something that is not JSON: no tty\."),
        ("echo [1]", r"program answered by version none "),
        (
            f"""echo '{{"apiVersion": "{V1}beta1"}}'""",
            rf"version {V1}beta1 of its API, and the kubeconfig says {V1}\.",
        ),
        (f"""echo '{{"apiVersion": "{V1}"}}'""", r"program gave neither a token nor a certificate and its key\."),
        (
            f"""echo '{{"apiVersion": "{V1}", "status": {{"clientCertificateData": "x"}}}}'""",
            r"program gave neither a token nor a certificate and its key\.",
        ),
        (r"printf '\033[31mtwo\r\nlines\n' >&2; exit 1", r"exit code 1: two lines\."),
    ],
)
def test_where_it_fails_nothing_is_asked_and_its_own_words_are_told(
    program: Program, api: ScriptedApi, capfd: pytest.CaptureFixture[str], script: str, words: str
):
    program.does(script)
    with pytest.raises(CredentialsError, match=words) as caught:
        ApiServer(program.load(), 60.0, QUICK)
    assert str(program.folder / "config") in str(caught.value)
    assert "hello" not in str(caught.value), "what it prints may be half a secret"
    assert program.runs == 1
    assert (capfd.readouterr().err, api.seen) == ("", [])


@pytest.mark.fault(158)
@pytest.mark.parametrize(
    ("hint", "words"),
    [({}, r"No such file or directory\."), ({"installHint": "Get it:\n apt install x"}, "Get it: apt")],
)
def test_one_that_is_not_there_is_named_with_the_hint_where_to_get_it(
    program: Program, hint: dict[str, Any], words: str
):
    with pytest.raises(CredentialsError, match=rf"program aws-not-there cannot be run: .*{words}"):
        ApiServer(program.load(command="aws-not-there", **hint), 60.0, QUICK)


@pytest.mark.fault(158)
@pytest.mark.parametrize("named", [{"command": ""}, {"apiVersion": None}])
def test_one_that_the_kubeconfig_does_not_name_whole_is_refused(program: Program, named: dict[str, Any]):
    with pytest.raises(CredentialsError, match="needs a command and an apiVersion"):
        program.load(**named)()


@pytest.mark.fault(158)
def test_where_it_fails_later_the_token_that_it_gave_goes_on(program: Program, api: ScriptedApi):
    program.gives(token="one")
    server = ApiServer(program.load(), ALWAYS, QUICK)
    program.does(EXPIRED)
    server.get(PATH)
    program.gives(token="two")
    server.get(PATH)
    assert [seen.headers["authorization"] for seen in api.seen] == ["Bearer one", "Bearer two"]


@pytest.mark.fault(158)
def test_so_does_the_certificate(folder: Path):
    own, person = certificate(folder, "api"), certificate(folder, "person")
    api = ScriptedApi(tls=own, clients=person[0])
    try:
        program = Program(folder, api.url)
        pem, key = (Path(each).read_text() for each in person)
        program.gives(clientCertificateData=pem, clientKeyData=key)
        server = ApiServer(program.load({"certificate-authority": own[0]}), ALWAYS, QUICK)
        server.get(PATH)
        program.does(EXPIRED)
        api.cut()
        server.get(PATH)
        assert len(api.seen) == 2
        assert program.runs == 3  # at the start, and before each request
    finally:
        api.close()


def check(program: Program, **streams: Any) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(program.kubeconfig())}
    environment |= {"RAYPROXY_STATE_DIR": str(program.folder / "state")}
    command = [sys.executable, "-m", "rayproxy", "check"]
    streams = {"stderr": subprocess.PIPE} | streams
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=False, **streams
    )


@pytest.mark.fault(158)
def test_check_says_what_the_program_says_and_nothing_that_would_follow_from_it(program: Program, api: ScriptedApi):
    program.does(EXPIRED)
    done = check(program)
    assert "Token for x has expired" in done.stdout.splitlines()[-1]
    assert done.stdout.count("FAIL") == 1, done.stdout
    assert "ERROR:root" not in done.stderr
    assert api.seen == []


@pytest.mark.fault(158)
def test_at_a_terminal_the_program_itself_speaks_and_may_ask(program: Program, api: ScriptedApi):
    program.does(f'test -t 0 && echo "Code?" >&2; read code; echo "got $code" > "{program.folder}/got"; exit 3')
    terminal, end = pty.openpty()
    try:
        os.write(terminal, b"1234\n")
        done = check(program, stdin=end, stderr=end)
        assert b"Code?" in os.read(terminal, 4096)
    finally:
        os.close(terminal)
        os.close(end)
    assert (program.folder / "got").read_text() == "got 1234\n"
    assert "program ended with exit code 3" in done.stdout.splitlines()[-1]


@pytest.mark.fault(158)
def test_where_it_fails_in_a_pod_the_pods_own_login_does_not_take_its_place(
    program: Program, monkeypatch: pytest.MonkeyPatch
):
    program.does(EXPIRED)
    (program.folder / "namespace").write_text("here")
    monkeypatch.setattr(login, "OWN_NAMESPACE", program.folder / "namespace")
    monkeypatch.setattr(login, "in_cluster", lambda: Login("https://own.example"))
    monkeypatch.setenv("KUBECONFIG", str(program.kubeconfig()))
    with pytest.raises(RefusedError, match="Token for x has expired"):
        connect(None, None)
    monkeypatch.setenv("KUBECONFIG", str(program.folder / "none"))
    server, namespace = connect(None, None)
    assert (server._session.login.host, namespace) == ("https://own.example", "here")
