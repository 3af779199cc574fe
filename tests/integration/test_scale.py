"""Many routes, many changes, and changes that are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests, rayservice, routed_names, service
from tests.support.waiting import stays, until

New = Callable[..., Daemon]


@pytest.mark.fault(58)
def test_updates_of_the_status_alone_cause_no_reload_and_no_write(daemon: Daemon, manifests: Manifests):
    chat = rayservice("chat")
    own = service(chat, ports=[{"name": "serve", "port": manifests.port}])
    manifests.write("chat", chat, own)
    daemon.start()
    before, written = daemon.reloads, stamps(daemon)
    for number in range(100):
        seen = daemon.metric("rayproxy_reconcile_duration_seconds_count")  # before the last: it may be looked at soon
        annotated = rayservice("chat", annotations={"n": str(number)}, status={"serviceStatus": f"Running {number}"})
        manifests.write("chat", annotated, own)
    until("it was looked at", lambda: daemon.metric("rayproxy_reconcile_duration_seconds_count") > seen)
    stays("nothing is written", lambda: stamps(daemon) == written)
    assert daemon.reloads == before


def stamps(daemon: Daemon) -> dict[str, tuple[int, int]]:
    """Return when each file of the state folder was written, nginx's own left out."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino)
        for path in daemon.state.rglob("*")
        if "run" not in path.relative_to(daemon.state).parts
    }


@pytest.mark.slow
@pytest.mark.fault(57)
@pytest.mark.timeout(240)
def test_five_thousand_routes_come_up_in_one_reload(daemon: Daemon, manifests: Manifests):
    names = manifests.many(5000)
    pending = [rayservice(f"p{number}") for number in range(1000)]
    manifests.write("pending", *pending)
    daemon.start(ready=False)
    until("ready", daemon.is_ready, 120, 0.2)
    assert routed_names(daemon) == set(names)
    assert daemon.reloads <= 1
    for name in (names[0], names[-1]):
        assert daemon.answers_from(name, "upstream")
    assert daemon.error("p999") == "rayservice_pending"
    assert daemon.metric('rayproxy_routes{state="accepted"}') == 5000


@pytest.mark.slow
@pytest.mark.fault(56)
@pytest.mark.fault(61)
def test_a_storm_of_changes_makes_few_reloads_and_ends_right(daemon: Daemon, manifests: Manifests):
    manifests.many(50)
    daemon.start()
    before = daemon.reloads
    for turn in range(20):
        for number in range(25):
            manifests.routed(f"s{number}", port=manifests.port if turn == 19 else 9 + turn)
    for number in range(25):
        daemon.until_state(f"s{number}", "accepted")
    until("the last change", lambda: all(daemon.answers_from(f"s{number}", "upstream") for number in range(25)), 30)
    assert 1 <= daemon.reloads - before <= 10


@pytest.mark.fault(19)
def test_more_than_half_of_the_routes_vanish_only_after_a_second_look(daemon: Daemon, manifests: Manifests):
    for number in range(8):
        manifests.routed(f"m{number}")
    daemon.start()
    for number in range(6):
        manifests.remove(f"m{number}")
    until("they are gone", lambda: routed_names(daemon) == {"m6", "m7"})
    until("and not served", lambda: daemon.error("m0") == "rayservice_not_found")


@pytest.mark.fault(19)
def test_an_emptied_folder_that_is_filled_again_at_once_loses_no_route(daemon: Daemon, manifests: Manifests):
    for number in range(8):
        manifests.routed(f"m{number}")
    daemon.start()
    before = daemon.reloads
    away = manifests.folder.with_name("away")
    away.mkdir()
    for path in list(manifests.folder.iterdir()):
        path.rename(away / path.name)
    for path in list(away.iterdir()):
        path.rename(manifests.folder / path.name)
    stays("all answer", lambda: daemon.answers_from("m0", "upstream") and len(routed_names(daemon)) == 8, 1.5)
    assert daemon.reloads == before
