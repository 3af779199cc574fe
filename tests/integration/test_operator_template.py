"""The operator's template: a change is picked up while running, a bad one keeps what is served and says why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests, rayservice
from tests.support.waiting import stays, until

New = Callable[..., Daemon]
pytestmark = pytest.mark.slow  # all together: each test has a daemon and an nginx of its own
GOOD = """location ^~ /apis/rayservice/{{ .Name }}/ {
    proxy_pass http://{{ .ClusterIP }}:{{ .Port }}/;
    include answer-fields.conf;
    add_header X-Template one always;
}
"""
BAD = {
    "no template": ("{{ .Name", "unexpected end of template"),
    "nothing": ("\n# to be written\n", "location.j2 is empty"),
    "an unknown variable": ("{{ .Password }}", "no variable Password"),
    "a loop": ("{% for x in Name %}{% endfor %}", "for is not allowed"),
    "endless": ("{{ 10 ** 10 ** 10 }}", "is not allowed"),
    "no nginx": ("lokation {{ .Name }} {}", "unknown directive"),
    "answers whose pages are not shut in": (GOOD.replace("include answer-fields.conf;", ""), "write `include answer"),
    "no nginx where a model is trusted": (GOOD + "{% if Trusted %}trust;{% endif %}", 'unknown directive \\"trust\\"'),
    "no nginx in an upgrade in steps": (GOOD + "{% if Lighter %}step;{% endif %}", 'unknown directive \\"step\\"'),
    "no text for some": (GOOD + "{% if Lighter and Percent >= '50' %}{% endif %}", "'>=' not supported"),
    "half a block": (GOOD + "}", "nginx refuses the location template"),
    "too large": ("#" * 70_000, "is larger than 65536 bytes"),
}


@pytest.fixture
def template(folder: Path) -> Path:
    path = folder / "t/location.j2"
    path.parent.mkdir()
    path.write_text(GOOD)
    return path


def header(daemon: Daemon) -> str:
    return daemon.route("chat").headers.get("x-template", "")


@pytest.mark.fault(30)
def test_a_template_changes_while_running_and_every_bad_one_keeps_the_last_good_one(
    new_daemon: New, manifests, template
):
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    assert header(daemon) == "one"
    for text, words in BAD.values():
        template.write_text(text)
        until("it is told", lambda words=words: words in daemon.told())
        assert header(daemon) == "one"
        assert daemon.is_ready()
    manifests.routed("more")
    until("others go on", lambda: daemon.answers_from("more", "upstream"))
    template.write_text(GOOD.replace("one", "two"))
    until("the good one", lambda: header(daemon) == "two")
    template.unlink()
    until("it is told", lambda: "cannot be read" in daemon.told())
    assert header(daemon) == "two"


ONE_PATH = {
    "one path for all models": "location = /status { return 204; }",
    "one for all of a kind": "{% if Kind == 'inferenceservice' %}location /x/ { return 204; }{% endif %}",
}


@pytest.mark.fault(151)
@pytest.mark.parametrize("more", ONE_PATH.values(), ids=ONE_PATH)
def test_a_template_that_collides_with_itself_is_refused_by_the_check(new_daemon: New, template: Path, more: str):
    template.write_text(GOOD + more)
    (line,) = [each for each in checked(new_daemon(TEMPLATE=str(template))).splitlines() if each.startswith("FAIL")]
    assert f"nginx refuses the location template {template}: duplicate location" in line


@pytest.mark.fault(151)
def test_a_template_that_collides_with_itself_keeps_the_last_good_one(new_daemon: New, manifests: Manifests, template):
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    template.write_text(GOOD.replace("one", "two") + ONE_PATH["one path for all models"])
    until("it is told", lambda: 'duplicate location \\"/status\\"' in daemon.told())
    manifests.routed("more")
    until("others go on", lambda: daemon.answers_from("more", "upstream"))
    assert header(daemon) == "one"
    assert daemon.until_state("more", "accepted")


@pytest.mark.fault(30)
def test_a_bad_template_at_the_start_serves_the_last_good_revision_and_says_why(new_daemon: New, manifests, template):
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    daemon.stop()
    template.write_text("lokation {}")
    daemon.start()
    until("it is told", lambda: 'unknown directive \\"lokation\\"' in daemon.told())
    stays("it serves", lambda: header(daemon) == "one")
    template.write_text(GOOD.replace("one", "two"))
    until("the good one", lambda: header(daemon) == "two")


@pytest.mark.fault(30)
def test_a_bad_template_on_a_new_disk_is_not_ready_and_says_why(new_daemon: New, manifests, template):
    manifests.routed("chat")
    template.write_text("{% for x in Name %}{% endfor %}")
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start(ready=False)
    until("it says why", lambda: "for is not allowed" in daemon.admin("/readyz")[1])
    assert daemon.admin("/readyz")[0] == 503
    assert daemon.admin("/healthz")[0] == 200
    template.write_text(GOOD)
    until("the route answers", lambda: daemon.answers_from("chat", "upstream"))
    until("ready", daemon.is_ready)


def checked(daemon: Daemon) -> str:
    command = [sys.executable, "-m", "rayproxy", "check"]
    return subprocess.run(command, env=daemon.environment, capture_output=True, check=False).stdout.decode()


@pytest.mark.fault(30)
def test_a_template_that_trusts_nobody_is_refused_where_names_are_given(new_daemon: New, template: Path):
    daemon = new_daemon(TEMPLATE=str(template), TRUSTED_PAGES="chat")
    words = "makes no difference for the models of RAYPROXY_TRUSTED_PAGES: use `prefix`, or write {% if Trusted %}"
    assert words in checked(daemon)
    template.write_text(GOOD.replace("include", "{% if Trusted %}include hidden-fields.conf;{% endif %} include", 1))
    assert f"ok    location template {template}" in checked(daemon)


def test_the_old_name_of_the_regex_template_is_taken_and_told_once(new_daemon: New, manifests: Manifests):
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE="documented", WORKERS="1").start()
    assert daemon.answers_from("chat", "upstream")
    assert daemon.told().count("the location template `documented` is called `regex` now") == 1
    assert "location ~ /apis/rayservice/chat/" in daemon.files()["ray-chat.conf"]


@pytest.mark.fault(87)
def test_a_template_that_lets_cookies_pass_is_used_and_told(new_daemon: New, manifests: Manifests, template: Path):
    manifests.routed("chat")
    template.write_text(GOOD.replace("proxy_pass", "proxy_set_header X-A b; proxy_pass"))
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    assert header(daemon) == "one"
    assert daemon.told().count("callers' cookies and Authorization reach its models") == 1


@pytest.mark.fault(30)
def test_a_template_swapped_as_a_configmap_is_picked_up(new_daemon: New, manifests: Manifests, folder: Path):
    """The kubelet replaces the link ..data, not the file."""
    mount = folder / "t"
    for version, text in (("one", GOOD), ("two", GOOD.replace("one", "two"))):
        (mount / version).mkdir(parents=True)
        (mount / version / "location.j2").write_text(text)
    (mount / "..data").symlink_to("one")
    (mount / "location.j2").symlink_to("..data/location.j2")
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE=str(mount / "location.j2"), WORKERS="1").start()
    assert header(daemon) == "one"
    (mount / "..tmp").symlink_to("two")
    (mount / "..tmp").rename(mount / "..data")
    until("the new one", lambda: header(daemon) == "two")


@pytest.mark.fault(31)
@pytest.mark.fault(32)
def test_routes_that_nginx_refuses_are_left_out_and_keep_their_last_good_version(new_daemon: New, manifests, template):
    """A template that is fine for its test and fails for some names and ports stands in for anything nginx refuses."""
    manifests.routed("chat")
    manifests.routed("first")
    template.write_text(GOOD + "{% if Port == 1 %}bad;{% endif %}{% if Name == 'ugly' %}worse;{% endif %}")
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    manifests.routed("chat", port=1)
    manifests.routed("ugly")
    for number in range(5):
        manifests.routed(f"m{number}")
    for number in range(5):
        daemon.until_state(f"m{number}", "accepted")
        until("it answers", lambda number=number: daemon.answers_from(f"m{number}", "upstream"))
    assert daemon.until_state("chat", "rejected")["reason"] == "RefusedByNginx"
    assert "its last good version goes on being served" in daemon.routes()["default/chat"]["message"]
    assert daemon.answers_from("chat", "upstream")
    assert 'unknown directive "worse"' in daemon.until_state("ugly", "rejected")["message"]
    assert daemon.error("ugly") == "rayservice_rejected"
    manifests.routed("chat")
    daemon.until_state("chat", "accepted")


@pytest.mark.fault(32)
def test_of_two_routes_that_collide_the_younger_is_left_out(new_daemon: New, manifests: Manifests, template: Path):
    template.write_text(
        GOOD + "{% if Name == 'aa' or Name == 'zz' %}location = /one-for-all { return 204; }{% endif %}"
    )
    manifests.routed("zz")
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    assert daemon.answers_from("zz", "upstream")
    manifests.routed("aa", creationTimestamp="2025-01-01T00:00:00Z")
    assert 'duplicate location "/one-for-all"' in daemon.until_state("aa", "rejected")["message"]
    assert daemon.answers_from("zz", "upstream")


def test_a_500_of_the_proxy_after_the_model_was_asked_is_not_asked_for_again(new_daemon: New, manifests, template):
    """Where a template lets nginx put its own answer in the place of a model's, which may have worked at the call."""
    template.write_text(GOOD.replace("    include", "    proxy_intercept_errors on;\n    include"))
    manifests.routed("chat")
    answer = new_daemon(TEMPLATE=str(template), WORKERS="1").start().route("chat", "status/500")
    assert (answer.status, answer.error_type, answer.headers.get("x-should-retry")) == (500, "proxy_error", "false")
    assert answer.headers.get("retry-after") is None


REFUSALS = {  # of a template that lets nobody ask: path -> status, and a word of the body
    "/": (404, "rayservice_not_found"),
    "/apis/rayservice/nope/": (404, "rayservice_not_found"),
    "/apis/rayservice/waits/": (503, "rayservice_pending"),
    "/apis/rayservice/chat/metrics": (404, "path_hidden"),
    "/apis/rayservice/chat": (308, "ends with a slash"),
    "/apis/rayservice/chat/": (403, "forbidden"),
}
WHO_MAY_ASK = {
    "an address": "deny 127.0.0.1;",
    "an address and a password": "deny all; {% if Name == 'chat' %}auth_basic a; auth_basic_user_file b;{% endif %}",
}


@pytest.mark.parametrize("says", WHO_MAY_ASK.values(), ids=WHO_MAY_ASK)
def test_a_template_that_says_who_may_ask_has_each_refusal_in_the_proxys_words(
    new_daemon: New, manifests, template, says
):
    """What it says beside its locations stands in the server's block, where the proxy's own answers are made too."""
    template.write_text(f"{says}\n{GOOD}")
    manifests.routed("chat")
    manifests.write("waits", rayservice("waits"))
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    daemon.until_state("chat", "accepted")
    for path, (status, word) in REFUSALS.items():
        answer = daemon.get(path)
        assert (path, answer.status, word in answer.body.decode()) == (path, status, True)


def test_files_that_a_template_serves_are_as_they_are_now(new_daemon: New, manifests, template: Path, folder: Path):
    words = folder / "words.json"
    template.write_text(GOOD + "location = /apis/rayservice/{{ .Name }}/words { alias " + f"{words}; }}")
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    for text in ("[1]", '["more", "of", "them"]', "[]"):
        words.write_text(text)
        assert daemon.route("chat", "words").body == text.encode()
    words.unlink()
    assert daemon.route("chat", "words").status == 404


def test_a_template_may_log_each_models_calls_by_its_name(new_daemon: New, manifests, template: Path, folder: Path):
    """Before it writes to such a file, nginx looks whether the root of the location is a folder."""
    logs = folder / "logs"
    logs.mkdir()
    logs.chmod(0o777)
    template.write_text(GOOD.replace("    include", f"    access_log {logs}/$route_name.log;\n    include"))
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    assert header(daemon) == "one"
    until("a line, or why not", lambda: (logs / "chat.log").exists() or "existence failed" in daemon.told())
    assert "existence failed" not in daemon.told()


@pytest.mark.parametrize("name", ["error", "hidden", "unrouted"])
def test_a_location_that_a_template_names_after_its_model_is_not_taken_for_one_of_the_proxys(
    new_daemon: New, manifests: Manifests, template: Path, name: str
):
    of_its_own = "location @{{ .Name }} { return 204; }"
    page = "location = /apis/rayservice/{{ .Name }}/page { error_page 418 = @{{ .Name }}; return 418; }"
    template.write_text(GOOD + of_its_own + page)
    manifests.routed(name)
    daemon = new_daemon(TEMPLATE=str(template), WORKERS="1").start()
    daemon.until_state(name, "accepted")
    assert daemon.route(name, "page").status == 204
