"""Every setting is a flag, an environment variable, and a check with a message."""

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest
from pydantic import ValidationError

from rayproxy import daemon
from rayproxy.__main__ import main
from rayproxy.cli import COMMANDS
from rayproxy.settings import Settings, misspelt

OTHER = {
    "source": "manifests", "manifests": "/m", "kubeconfig": "/k", "context": "c", "label_selector": "app=x",
    "namespaces": "a,b", "allow_unowned_services": "true", "allowed_cidrs": "10.0.0.0/8", "name_hold": "5",
    "names_configmap": "n/c", "name_policy": "/p", "max_routes_per_namespace": "9", "template": "regex",
    "state_dir": "/s", "nginx": "external", "nginx_binary": "/n", "listen": "127.0.0.1:1", "workers": "3",
    "worker_connections": "65", "worker_shutdown_timeout": "4", "read_timeout": "5", "max_body": "6k",
    "stream_bodies": "a,n/b", "access_log": "true", "trusted_pages": "a,b/c,d/*",
    "pass_authorization": "false", "hidden_paths": "/a,/b/c", "trusted_front_ends": "10.0.0.0/8,fd00::/8",
    "calls_per_caller": "9", "admin_listen": "127.0.0.1:2", "resync": "7", "max_draining": "8",
    "kinds": "rayservice", "gateways": "a/b", "gateway_class": "c", "replicas_service": "n/s", "replica": "r",
    "pending_warning": "8", "reload_timeout": "9", "events": "false", "log_level": "debug",
}  # fmt: skip


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("RAYPROXY_") or name == "KUBECONFIG":
            monkeypatch.delenv(name)


def parsed(monkeypatch, *arguments: str) -> Settings:
    """Return the settings that `rayproxy run` would run with."""
    seen: list[Settings] = []
    monkeypatch.setattr(daemon, "run", lambda settings: seen.append(settings) or 0)
    assert main(["run", *arguments]) == 0
    return seen[0]


def test_the_list_of_this_test_is_the_list_of_settings():
    assert OTHER.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", OTHER)
def test_each_setting_is_an_environment_variable_and_a_flag_that_comes_first(monkeypatch, name):
    variable = "KUBECONFIG" if name == "kubeconfig" else f"RAYPROXY_{name.upper()}"
    base = [] if name in ("source", "manifests") else ["--source=manifests", "--manifests=/elsewhere"]
    if name == "source":
        base = ["--manifests=/elsewhere"]
    if name == "manifests":
        base = ["--source=manifests"]
    default = getattr(parsed(monkeypatch, "--source=manifests", "--manifests=/elsewhere"), name)
    if name == "source":
        default = "kubernetes"
    flag = name.replace("_", "-")
    flag = {"true": f"--{flag}", "false": f"--no-{flag}"}.get(OTHER[name], f"--{flag}={OTHER[name]}")
    by_flag = getattr(parsed(monkeypatch, *base, flag), name)
    monkeypatch.setenv(variable, OTHER[name])
    by_environment = getattr(parsed(monkeypatch, *base), name)
    assert by_flag == by_environment != default


def test_a_flag_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("RAYPROXY_LISTEN", "127.0.0.1:1")
    assert parsed(monkeypatch, "--listen=127.0.0.1:2").listen == "127.0.0.1:2"


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out
    for name in OTHER:
        assert f"--{name.replace('_', '-')}" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_each_default_once_and_nothing_of_python(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("tuple[", "dict[", "None", "null", "factory", "(default: )", "()", "{}", "True", "False", ".0)"):
        assert word not in shown
    assert not re.search(r"default: [^()]*\) \(default", shown)
    assert "(default: 127.0.0.1:8080)" in shown or command in ("deploy", "undeploy")
    assert "(default: /-/routes,/metrics)" in shown or command in ("deploy", "undeploy")


def test_help_says_no_default_that_the_command_does_not_have(capsys):
    with pytest.raises(SystemExit):
        main(["undeploy", "--help"])
    assert "the file's" not in capsys.readouterr().out


WRONG = [
    ("--source=files", "--source: Input should be 'kubernetes' or 'manifests'"),
    ("--source=manifests", "the manifests source needs a folder: set RAYPROXY_MANIFESTS or --manifests"),
    ("--listen=8080x", "--listen: '8080x' is not address:port or a port, such as 127.0.0.1:8080, [::1]:8080 or 8080"),
    ("--listen=host:80", "is not address:port"),
    ("--listen=127.0.0.1:0", "is not address:port"),
    ("--listen=127.0.0.1:65536", "is not address:port"),
    ("--listen=1.2.3:80", "does not appear to be an IPv4 or IPv6 address"),
    ("--listen=127.0.0.1:80; evil", "is not address:port"),
    ("--admin-listen=x", "--admin-listen: 'x' is not address:port"),
    ("--max-body=16 m", "--max-body: '16 m' is not a size such as 16m"),
    ("--max-body=16m;", "is not a size"),
    ("--max-body=8589934592g", "is not a size"),
    ("--max-body=" + "9" * 5000, "is not a size"),
    (
        "--max-body=0m",
        "--max-body: '0m' is no limit, and a body may fill nginx's folder: name a size such as 16m",
    ),
    ("--namespaces=a,B", "--namespaces: 'B' is not a namespace name"),
    ("--namespaces=a/../b", "is not a namespace name"),
    ("--allowed-cidrs=10.0.0.1/8", "--allowed-cidrs: 10.0.0.1/8 has host bits set"),
    ("--allowed-cidrs=all", "does not appear to be an IPv4 or IPv6 network"),
    ("--stream-bodies=a,B", "--stream-bodies: 'B' names no model: NAME, NAMESPACE/NAME, NAMESPACE/* or *"),
    ("--stream-bodies=a b", "names no model"),
    ("--stream-bodies=a/b/c", "names no model"),
    ("--stream-bodies=/a", "names no model"),
    ("--stream-bodies=a*", "names no model"),
    ("--stream-bodies=*/a", "names no model"),
    ("--trusted-pages=a,B", "--trusted-pages: 'B' names no model: NAME, NAMESPACE/NAME, NAMESPACE/* or *"),
    ("--trusted-pages=*/a", "'*/a' names no model"),
    ("--trusted-pages=a/b/c", "'a/b/c' names no model"),
    ("--trusted-pages=a/", "'a/' names no model"),
    ("--trusted-pages=a;b", "'a;b' names no model"),
    ("--hidden-paths=/a,metrics", "--hidden-paths: 'metrics' is no path such as /metrics"),
    ("--hidden-paths=/", "is no path"),
    ("--hidden-paths=//a", "is no path"),
    ("--hidden-paths=/a/../b", "is no path"),
    ('--hidden-paths=/a" yes; evil', "is no path"),
    ("--trusted-front-ends=10.0.0.1/8", "--trusted-front-ends: 10.0.0.1/8 has host bits set"),
    ("--trusted-front-ends=fe80::1%eth0", "'fe80::1%eth0' names an interface: write the network alone, fe80::1"),
    ("--allowed-cidrs=fe80::%eth0/64", "names an interface"),
    ("--hidden-paths=/" + "x" * 255, "'/xxxxxxxxxxxxxxxxxxx'... is longer than 255 characters"),
    ("--worker-connections=65536", "--worker-connections: Input should be less than or equal to 65535"),
    ("--calls-per-caller=65536", "--calls-per-caller: Input should be less than or equal to 65535"),
    ("--read-timeout=2147484", "--read-timeout: Input should be less than or equal to 2147483"),
    ("--worker-shutdown-timeout=2147484", "--worker-shutdown-timeout: Input should be less than or equal to 2147483"),
    ("--max-draining=513", "--max-draining: Input should be less than or equal to 512"),
    ("--calls-per-caller=-1", "--calls-per-caller: Input should be greater than or equal to 0"),
    ("--workers=0", "--workers: Input should be greater than or equal to 1"),
    ("--resync=0", "--resync: Input should be greater than or equal to 1"),
    ("--resync=inf", "--resync: Input should be less than or equal to 2147483"),
    ("--resync=nan", "--resync: Input should be"),
    ("--log-level=loud", "--log-level: String should match"),
    ("--state-dir=/tmp/a b", "RAYPROXY_STATE_DIR holds a character that nginx would need quoted"),
    ("--state-dir=/" + "x" * 100, "RAYPROXY_STATE_DIR is too long for a unix socket"),
]


@pytest.mark.parametrize(("flag", "words"), WRONG)
def test_a_wrong_setting_is_named_with_what_is_wrong(capsys, flag, words):
    assert main(["run", flag]) == 2
    assert f"rayproxy run: {words}" in (said := capsys.readouterr().err) or words in said
    assert said.startswith("rayproxy run: ")


def test_an_empty_path_is_none_and_not_the_folder_one_happens_to_be_in(monkeypatch, capsys):
    assert main(["run", "--source=manifests", "--manifests="]) == 2
    assert "the manifests source needs a folder" in capsys.readouterr().err
    usual = parsed(monkeypatch)
    for name in ("MANIFESTS", "NAME_POLICY", "STATE_DIR"):
        monkeypatch.setenv(f"RAYPROXY_{name}", "")
    assert parsed(monkeypatch) == usual


def test_a_variable_that_is_misspelt_is_told_and_what_is_somebody_elses_is_not(monkeypatch):
    monkeypatch.setenv("RAYPROXY_WORKRS", "3")
    monkeypatch.setenv("RAYPROXY_LABEL_SELECTORS", "a=b")
    monkeypatch.setenv("RAYPROXY_WORKERS", "3")
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR", "IMAGE"):
        monkeypatch.setenv(f"RAYPROXY_{name}", "x")  # of a Service called rayproxy, or of another program
    assert misspelt() == {
        "RAYPROXY_WORKRS": "RAYPROXY_WORKERS", "RAYPROXY_LABEL_SELECTORS": "RAYPROXY_LABEL_SELECTOR"
    }  # fmt: skip


@pytest.mark.fault(28)
def test_a_newline_in_the_environment_does_not_pass_for_an_address(monkeypatch, capsys):
    monkeypatch.setenv("RAYPROXY_LISTEN", "127.0.0.1:80\n")
    assert main(["run"]) == 2
    assert "is not address:port" in capsys.readouterr().err


@pytest.mark.parametrize("source", [["--source=manifests", "--manifests=/m"], []])
def test_a_selector_that_is_none_is_named_whatever_the_source(capsys, source):
    assert main(["run", *source, "--label-selector=app in a"]) == 2
    assert "'app in a' is not a label selector: 'a' stands where '(' must" in capsys.readouterr().err


def test_an_unknown_flag_and_an_unknown_command_are_named(capsys):
    with pytest.raises(SystemExit) as left:
        main(["run", "--lisen=x"])
    assert left.value.code == 2
    assert "unrecognized arguments: --lisen=x" in capsys.readouterr().err
    assert main(["walk"]) == 2
    assert "there is no command 'walk'" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rayproxy {importlib.metadata.version('rayproxy')}\n"


def test_settings_cannot_be_changed_once_made():
    with pytest.raises(ValidationError):
        Settings().listen = "127.0.0.1:1"


def test_the_command_runs_as_a_module():
    shown = subprocess.run([sys.executable, "-m", "rayproxy", "help"], capture_output=True, text=True, check=True)
    for command in ("run", "render", "check", "routes", "init"):
        assert f"\n  {command}" in shown.stdout
