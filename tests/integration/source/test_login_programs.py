"""The login program that a kubeconfig names: what it gives, and what is said where it gives nothing."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayproxy.checkpoint.connect import connect
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.kube import login
from rayproxy.kube.api import ApiError, ApiServer
from rayproxy.kube.login import connect_by_kubeconfig, from_kubeconfig, namespace_of
from rayproxy.kube.session import CredentialsError, Login
from tests.support.certificates import certificate
from tests.support.reflecting import PATH, QUICK
from tests.support.scripted import Reply, ScriptedApi, Seen, refuse
from tests.support.waiting import until

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

    def notes(self, words: str) -> None:
        self.gives(token="one")
        self.does(f'echo {words} > "{self.folder}/told"; cat; cat "{self.folder}/answer"')

    def waits_for(self, file: Path) -> None:
        self.does(f'echo "enter code ABC-123" >&2; until test -e "{file}"; do sleep 0.05; done; exit 3')

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
    program.notes('"$1 $GREETING $KUBERNETES_EXEC_INFO"')
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


def test_it_is_told_of_the_cluster_what_kubectl_tells_it_and_no_more(program: Program):
    program.notes('"$KUBERNETES_EXEC_INFO"')
    context, other = program.kubeconfig(provideClusterInfo=True), program.folder / "other"
    other.mkdir()
    (other / "ca.pem").write_text("authority")
    (other / "config").write_text(
        """clusters: [{name: c, cluster: {server: "http://api.example", certificate-authority: ca.pem,
        insecure-skip-tls-verify: false, tls-server-name: api, proxy-url: "http://proxy.example:1", extensions: [
          {name: cluster_info, extension: {last-update: 2026-11-27T10:00:00Z}},
          {name: client.authentication.k8s.io/exec, extension: {since: 2026-11-27T10:00:00Z}}]}}]"""
    )
    from_kubeconfig(f"{other / 'config'}{os.pathsep}{context}", None)
    assert json.loads((program.folder / "told").read_text())["spec"]["cluster"] == {
        "server": "http://api.example",
        "certificate-authority-data": b64encode(b"authority").decode(),
        "tls-server-name": "api",
        "proxy-url": "http://proxy.example:1",
        "config": {"since": "2026-11-27T10:00:00Z"},
    }


def test_data_of_an_authority_go_before_its_file(program: Program):
    program.notes('"$KUBERNETES_EXEC_INFO"')
    cluster = {"certificate-authority": "not-there", "certificate-authority-data": "eA=="}
    program.load(cluster, provideClusterInfo=True)()
    told = json.loads((program.folder / "told").read_text())["spec"]["cluster"]
    assert told == {"server": program.server, "certificate-authority-data": "eA=="}


def test_an_authority_that_is_not_there_is_named(program: Program):
    with pytest.raises(CredentialsError, match=r"No such file or directory: '.*/not-there'\."):
        program.load({"certificate-authority": "not-there"}, provideClusterInfo=True)()


@pytest.mark.parametrize("variable", [{"name": "A"}, {"name": "A", "value": None}])
def test_a_variable_without_a_value_is_empty(program: Program, variable: dict[str, Any]):
    program.notes('"${A-unset}$A"')
    program.load(env=[variable])()
    assert (program.folder / "told").read_text() == "\n"


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


@pytest.mark.fault(158)
def test_while_it_is_asked_again_others_go_on_with_the_login_that_it_gave(program: Program, api: ScriptedApi):
    program.gives(token="one")
    server, go = ApiServer(program.load(), ALWAYS, QUICK), program.folder / "go"
    program.waits_for(go)
    with ThreadPoolExecutor() as pool:
        try:
            first = pool.submit(server.get, PATH)
            until("it is asked again", lambda: program.runs == 2)
            pool.submit(server.get, PATH).result(timeout=30)
            assert not first.done()
        finally:
            go.touch()
        first.result()
    assert [seen.headers["authorization"] for seen in api.seen] == ["Bearer one"] * 2


@pytest.mark.fault(158)
@pytest.mark.parametrize("fails", [False, True])
def test_of_many_that_are_refused_at_once_one_asks_it(program: Program, api: ScriptedApi, fails: bool):
    program.gives(token="one")
    server, together = ApiServer(program.load(), 60.0, QUICK), threading.Barrier(8)
    program.does(EXPIRED) if fails else program.gives(token="two")

    def let_in(seen: Seen) -> Reply | None:
        if seen.headers["authorization"] == "Bearer two":
            return None
        together.wait(30)
        return refuse(401)

    api.always = let_in
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.get, PATH) for _ in range(8)]
    assert [type(each.exception()) for each in asked] == [ApiError if fails else type(None)] * 8
    assert program.runs == 2, "at the start, and once more"


@pytest.mark.fault(158)
def test_who_is_refused_is_told_why_there_is_no_newer_login(program: Program, api: ScriptedApi):
    program.gives(token="one")
    server = ApiServer(program.load(), 60.0, QUICK)
    api.always = lambda _: refuse(401)
    program.does(EXPIRED)
    with pytest.raises(ApiError, match=r": 401 no; .*: Token for x has expired\.") as caught:
        server.get(PATH)
    assert caught.value.status == 401
    program.gives(token="two")
    with pytest.raises(ApiError, match=r": 401 no$"):
        server.get(PATH)


@pytest.mark.fault(158)
def test_one_that_hangs_when_it_is_asked_again_is_killed_with_what_it_started(
    program: Program, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(login, "KUBECONFIG_REFRESH", ALWAYS)
    monkeypatch.setattr(login, "RENEWAL_LIMIT", 0.5)
    program.gives(token="one")
    server, started = connect_by_kubeconfig(str(program.kubeconfig()), None), program.folder / "started"
    program.does(f'echo hello >&2; sleep 600 & echo $! > "{started}"; wait')
    until("it started something", lambda: server.get(PATH) and started.exists() and started.read_text())
    child = Path("/proc") / started.read_text().strip() / "cmdline"
    until("what it started is gone, or dead", lambda: not child.exists() or not child.read_bytes())
    assert {seen.headers["authorization"] for seen in api.seen} == {"Bearer one"}
    api.always = lambda _: refuse(401)

    def refusal() -> str:
        with pytest.raises(ApiError) as caught:
            server.get(PATH)
        return str(caught.value)

    until("why is told", lambda: "program did not end within 0.5 s: hello" in refusal())


def check(program: Program, mode: str = "IfAvailable", **streams: Any) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(program.kubeconfig(interactiveMode=mode))}
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
@pytest.mark.parametrize(("mode", "types"), [("IfAvailable", False), ("Never", True)])
def test_at_a_terminal_it_is_heard_while_it_waits_though_it_may_not_ask(program: Program, mode: str, types: bool):
    entered, heard = program.folder / "entered", bytearray()
    program.waits_for(entered)
    terminal, end = pty.openpty()

    def hears() -> bool:
        if select.select([terminal], [], [], 0)[0]:
            heard.extend(os.read(terminal, 4096))
        return b"enter code ABC-123" in heard

    try:
        with ThreadPoolExecutor() as pool:
            done = pool.submit(check, program, mode, stdin=end if types else subprocess.DEVNULL, stderr=end)
            try:
                until("it is heard", hears)
            finally:
                entered.touch()
    finally:
        os.close(terminal)
        os.close(end)
    assert "program ended with exit code 3" in done.result().stdout.splitlines()[-1]


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
    assert (server._sessions.current.login.host, namespace) == ("https://own.example", "here")
