"""Names that are granted by labels of namespaces: a whole daemon before a scripted API server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.manifests import rayservice, service
from tests.support.reflecting import PATH
from tests.support.scripted import Reply, ScriptedApi, Seen, kubeconfig, page, raw, refuse
from tests.support.upstream import Upstream
from tests.support.waiting import stays, until

SERVICES, NAMESPACES = "/api/v1/services", "/api/v1/namespaces"
CONTACT = 'rayproxy_source_last_contact_timestamp_seconds{resource="namespaces"}'
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
BY_NAME = "- {namespaces: [team-b], names: ['b-*']}\n"
BY_LABEL = "- {namespaceSelector: {matchLabels: {team: a}}, names: ['a-*']}\n"


@pytest.fixture
def policy(folder: Path) -> Path:
    """Return the policy's file, in a folder that is watched."""
    path = folder / "p" / "policy.yaml"
    path.parent.mkdir()
    path.write_text(BY_NAME + BY_LABEL)
    return path


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], api: ScriptedApi, folder: Path, policy: Path) -> Daemon:
    """Return a daemon, not started, that has no reason of its own to look at everything again."""
    config = kubeconfig(folder, api.url)
    settings = {"EVENTS": "false", "RESYNC": "3600", "KINDS": "rayservice", "NAMES_CONFIGMAP": "", "WORKERS": "1"}
    return make_daemon(KUBECONFIG=str(config), NAME_POLICY=str(policy), **settings)


def add(api: ScriptedApi, upstream: Upstream, name: str, namespace: str) -> None:
    ray = rayservice(name, namespace)
    api.put(SERVICES, service(ray, ports=[{"name": "serve", "port": upstream.port}]))
    api.put(PATH, ray)


def label(api: ScriptedApi, name: str, **labels: str) -> None:
    api.put(NAMESPACES, {"metadata": {"name": name, "labels": labels}})


def asked(api: ScriptedApi) -> list[Seen]:
    return [seen for seen in api.seen if seen.path == NAMESPACES]


def refused(path: str) -> Callable[[Seen], Reply | None]:
    return lambda seen: refuse(403, "no permission to list namespaces") if seen.path == path else None


@pytest.fixture
def routed(daemon: Daemon, api: ScriptedApi, upstream: Upstream) -> Daemon:
    """Return a daemon that serves a route that is granted by a name, and one that is granted by a label."""
    label(api, "team-a", team="a")
    label(api, "team-b")
    add(api, upstream, "a-1", "team-a")
    add(api, upstream, "b-1", "team-b")
    daemon.start()
    daemon.until_state("a-1", "accepted", "team-a")
    until("watched", lambda: any("watch" in seen.query for seen in asked(api)))
    return daemon


def test_a_label_that_is_given_brings_a_route_and_one_that_is_taken_rejects_it(
    routed: Daemon, api: ScriptedApi, upstream: Upstream
):
    add(api, upstream, "a-2", "team-c")
    assert routed.until_state("a-2", "rejected", "team-c")["reason"] == "NameNotGranted"
    label(api, "team-c", team="a")
    routed.until_state("a-2", "accepted", "team-c")
    assert routed.error("a-2") == ""
    label(api, "team-a", team="b")
    row = routed.until_state("a-1", "rejected", "team-a")
    assert row["reason"] == "NameNotGranted"
    assert routed.error("a-1") == "rayservice_rejected"
    assert [routed.error(name) for name in ("a-2", "b-1")] == ["", ""]
    assert routed.metric("rayproxy_source_problems") == 0


@pytest.mark.slow
@pytest.mark.fault(166)
def test_without_a_selector_nobody_asks_for_namespaces_and_one_that_comes_is_gone_by(
    daemon: Daemon, api: ScriptedApi, policy: Path, upstream: Upstream
):
    policy.write_text(BY_NAME)
    label(api, "team-a", team="a")
    add(api, upstream, "a-1", "team-a")
    add(api, upstream, "b-1", "team-b")
    daemon.start()
    daemon.until_state("b-1", "accepted", "team-b")
    assert daemon.routes()["team-a/a-1"]["reason"] == "NameNotGranted"
    stays("namespaces are not asked for", lambda: not asked(api), 0.5)
    assert CONTACT not in daemon.admin("/metrics")[1]
    policy.write_text(BY_NAME + BY_LABEL)
    daemon.until_state("a-1", "accepted", "team-a")
    until("the answer is dated", lambda: daemon.metric(CONTACT) > 0)
    policy.write_text(BY_NAME)
    daemon.until_state("a-1", "rejected", "team-a")
    label(api, "team-a", team="b")
    until("nobody waits for an answer any more", lambda: CONTACT not in daemon.admin("/metrics")[1])
    count = len(asked(api))
    label(api, "team-a", team="a")
    stays("and none is asked for", lambda: len(asked(api)) == count, 0.5)
    assert daemon.stop() == 0


@pytest.mark.slow
@pytest.mark.fault(166)
def test_while_namespaces_may_not_be_listed_what_is_live_stays_and_nothing_is_granted(
    routed: Daemon, api: ScriptedApi, upstream: Upstream
):
    routed.stop()
    api.always = refused(NAMESPACES)
    add(api, upstream, "b-2", "team-b")
    routed.start()
    said = "goes by labels of namespaces, which are not known yet (/api/v1/namespaces: forbidden)"
    until("it is told", lambda: said in routed.told())
    assert [routed.error(name) for name in ("a-1", "b-1", "b-2")] == ["", "", "rayservice_not_found"]
    assert routed.metric("rayproxy_source_problems") == 1
    api.always = lambda _: None
    routed.until_state("b-2", "accepted", "team-b")
    assert [routed.error(name) for name in ("a-1", "b-1", "b-2")] == ["", "", ""]
    until("nothing is wrong", lambda: routed.metric("rayproxy_source_problems") == 0)


@pytest.mark.fault(166)
def test_at_the_first_start_without_the_permission_the_daemon_is_not_ready_and_says_why(
    daemon: Daemon, api: ScriptedApi, upstream: Upstream
):
    label(api, "team-a", team="a")
    add(api, upstream, "a-1", "team-a")
    api.always = refused(NAMESPACES)
    daemon.start(ready=False)
    said = "goes by labels of namespaces, which are not known yet (/api/v1/namespaces: forbidden)"
    until("it says so", lambda: said in daemon.admin("/readyz")[1])
    assert daemon.admin("/readyz")[0] == 503
    api.always = lambda _: None
    daemon.until_state("a-1", "accepted", "team-a")
    assert daemon.is_ready()


@pytest.mark.slow
@pytest.mark.fault(166)
def test_a_policy_that_needs_what_may_not_be_read_leaves_the_one_before_in_force(
    daemon: Daemon, api: ScriptedApi, policy: Path, upstream: Upstream
):
    policy.write_text("- {namespaces: [team-a, team-b], names: ['*']}\n")
    add(api, upstream, "a-1", "team-a")
    add(api, upstream, "b-1", "team-b")
    daemon.start()
    daemon.until_state("a-1", "accepted", "team-a")
    api.always = refused(NAMESPACES)
    policy.write_text(BY_LABEL)
    until("it is told", lambda: "until then what was granted before is" in daemon.told())
    add(api, upstream, "b-2", "team-b")
    daemon.until_state("b-2", "accepted", "team-b")
    assert [daemon.error(name) for name in ("a-1", "b-1")] == ["", ""]
    assert daemon.metric("rayproxy_source_problems") == 1
    label(api, "team-a", team="a")
    api.always = lambda _: None
    daemon.until_state("b-1", "rejected", "team-b")
    assert daemon.error("a-1") == ""


@pytest.mark.fault(166)
def test_after_a_failure_the_labels_that_are_known_stay_in_force(routed: Daemon, api: ScriptedApi, upstream: Upstream):
    api.always = refused(NAMESPACES)
    api.cut()
    until("it is told", lambda: "the labels of namespaces that are known go on being used" in routed.told())
    add(api, upstream, "a-2", "team-a")
    routed.until_state("a-2", "accepted", "team-a")
    assert [routed.error(name) for name in ("a-1", "b-1")] == ["", ""]


@pytest.mark.slow
@pytest.mark.fault(166)
def test_a_list_of_namespaces_that_is_wrongly_empty_takes_no_route_away(
    routed: Daemon, api: ScriptedApi, upstream: Upstream
):
    names = [f"a-{number}" for number in range(1, 7)]
    for name in names:
        add(api, upstream, name, "team-a")
    routed.until_state(names[-1], "accepted", "team-a")
    before = len([seen for seen in asked(api) if "watch" not in seen.query])
    once = {"watch": refuse(410), "list": page([], api.version)}

    def always(seen: Seen) -> Reply | None:
        return once.pop("watch" if "watch" in seen.query else "list", None) if seen.path == NAMESPACES else None

    api.always = always
    api.cut()
    until("a second list", lambda: len([each for each in asked(api) if "watch" not in each.query]) >= before + 2)
    add(api, upstream, "b-2", "team-b")
    routed.until_state("b-2", "accepted", "team-b")
    assert [routed.error(name) for name in names] == [""] * len(names)
    assert "NameNotGranted" not in routed.told()


def reviewed(seen: Seen) -> Reply | None:
    """Allow nothing."""
    return raw(b'{"status": {"allowed": false}}') if seen.path == REVIEW else None


@pytest.mark.slow
def test_check_asks_for_the_permission_where_the_policy_needs_it(daemon: Daemon, api: ScriptedApi, policy: Path):
    api.always = reviewed
    mend = "no: apply the component deploy/namespace-labels beside deploy/, or name namespaces in the policy"
    said = rayproxy(daemon, "check").stdout
    for verb in ("list", "watch"):
        assert f"FAIL  may {verb} namespaces in all namespaces, for the name policy: {mend}" in said
    policy.write_text(BY_NAME + "- {namespaceSelector: {}, names: [demo]}\n")
    assert " namespaces, for the name policy" not in rayproxy(daemon, "check").stdout
    policy.write_text("- {namespaceSelector: {matchLabels: 7}, names: [demo]}\n")
    said = rayproxy(daemon, "check").stdout
    assert f"FAIL  name policy {policy}: " in said
    assert " namespaces, for the name policy" not in said


@pytest.mark.slow
def test_render_goes_by_labels_as_the_daemon_does(daemon: Daemon, api: ScriptedApi, upstream: Upstream):
    label(api, "team-a", team="a")
    for name, namespace in (("a-1", "team-a"), ("a-2", "team-b")):
        add(api, upstream, name, namespace)
    shown = rayproxy(daemon, "render")
    assert "# ray-a-1.conf\n" in shown.stdout
    assert "# ray-a-2.conf\n" not in shown.stdout
    assert "rejection: team-b/a-2: the name a-2 is not among those" in shown.stderr
    assert [seen.query.get("watch") for seen in asked(api)] == [None]
    api.always = refused(NAMESPACES)
    shown = rayproxy(daemon, "render")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "no permission to list namespaces" in shown.stderr


@pytest.mark.slow
def test_with_manifests_a_selector_is_refused_by_every_command(
    make_daemon: Callable[..., Daemon], folder: Path, policy: Path
):
    (folder / "m").mkdir()
    daemon = make_daemon(SOURCE="manifests", MANIFESTS=str(folder / "m"), NAME_POLICY=str(policy))
    said = f"the name policy {policy}: --1.namespaceSelector: a folder of manifests says no labels of namespaces"
    for command in ("run", "render"):
        ended = rayproxy(daemon, command)
        assert ended.returncode == 1
        assert said in ended.stderr
    assert said in rayproxy(daemon, "check").stdout
    assert rayproxy(daemon, "init").returncode == 0
