"""A model that KubeRay's released operator runs: what happens to it, and what callers hear meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import yaml

from tests.cluster.table import Table
from tests.cluster.world import HEAD, NAME, SECOND_IMAGE, WORKER, World, is_ready
from tests.support.apiserver import ApiProblem
from tests.support.callers import ANSWERED, WHOLE, Heard
from tests.support.node import LONG
from tests.support.waiting import stays, until

DOWN = 120.0  # s
AWAY = 20.0  # s


def test_a_model_is_deployed_in_a_namespace_and_answers_through_the_proxy(served: World):
    assert served.asked() == ANSWERED
    assert served.model() == "one"


def test_the_models_pods_run_where_all_but_restricted_pods_are_refused(served: World):
    bare = {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "bare", "image": "bare"}]}}
    with pytest.raises(ApiProblem, match="restricted"):
        served.running.server.call("POST", f"/api/v1/namespaces/{served.namespace}/pods", bare)
    assert served.workers()


def test_another_environment_upgrades_the_model_and_cuts_no_stream(served: World, table: Table):
    with table.calling("upgraded by another environment", served) as heard:
        _upgraded(served, "two")
    assert heard.figures.cut == 0
    assert set(heard.outcomes) <= {ANSWERED, WHOLE, "503"}, heard.outcomes  # KubeRay's switch: docs/development.md


def _upgraded(served: World, model: str, image: str = "") -> None:
    done = served.deploy(model, image=image)
    assert done.returncode == 0, done.stdout + done.stderr
    until("the new one answers", lambda: served.model() == model, LONG, 0.2)
    until("the old cluster is gone", lambda: len(served.workers()) == 1, LONG, 0.5)


def test_two_replicas_and_one_again_start_no_cluster(served: World, table: Table):
    before = [pod["metadata"]["name"] for pod in served.pods(HEAD)]
    model = served.model()
    for replicas, what in ((2, "scaled to 2"), (1, "scaled to 1 again")):
        with table.calling(what, served) as heard:
            served.scale(replicas)  # before it is waited for: KubeRay does it for its next cluster alone
            done = served.deploy(model, f"--replicas={replicas}")
            assert done.returncode == 0, done.stdout + done.stderr
            until("as many workers", lambda n=replicas: list(map(is_ready, served.workers())) == [True] * n, LONG, 0.5)
            answered = heard.outcomes[ANSWERED]
            until("callers are answered", lambda heard=heard, n=answered: heard.outcomes[ANSWERED] > n + 200, LONG)
    assert [pod["metadata"]["name"] for pod in served.pods(HEAD)] == before


@pytest.mark.whole
def test_another_image_upgrades_the_model_and_cuts_no_stream(served: World, table: Table):
    assert served.own  # the image is on its nodes
    with table.calling("upgraded by another image", served) as heard:
        _upgraded(served, "image", image=SECOND_IMAGE)
    assert heard.figures.cut == 0
    assert set(heard.outcomes) <= {ANSWERED, WHOLE, "503"}, heard.outcomes


@pytest.mark.whole
def test_callers_do_not_notice_that_the_operator_is_down_for_two_minutes(served: World, table: Table):
    operator = served.own.operator
    _unnoticed(
        served, table.calling("KubeRay's operator down for two minutes", served), (operator.stop, operator.start), DOWN
    )


def test_callers_do_not_notice_that_the_api_server_was_killed(served: World, table: Table):
    server, what = served.own.server, f"the API server killed, back after {AWAY:.0f} s"
    _unnoticed(served, table.calling(what, served), (server.kill, server.start), AWAY)


def _unnoticed(
    served: World,
    calling: AbstractContextManager[Heard],
    switch: tuple[Callable[[], object], Callable[[], object]],
    seconds: float,
) -> None:
    """Switch something off, and on again after so long, while callers ask."""
    off, on = switch
    with calling as heard:
        off()
        try:
            stays("the model answers", lambda: served.asked() == ANSWERED, seconds, 1.0)
        finally:
            on()
        answered = heard.outcomes[ANSWERED]
        until("callers are answered", lambda: heard.outcomes[ANSWERED] > answered + 200, LONG)
    assert set(heard.outcomes) == {ANSWERED, WHOLE}, heard.outcomes


def test_another_serve_config_alone_starts_no_cluster_and_cuts_no_stream(served: World, table: Table):
    before = [pod["metadata"]["name"] for pod in served.workers()]
    with table.calling("another serveConfigV2 alone", served) as heard:
        served.patch({"serveConfigV2": _renamed(served.spec()["serveConfigV2"], "three")})
        until("the new configuration answers", lambda: served.model() == "three", LONG, 0.2)
    assert [pod["metadata"]["name"] for pod in served.workers()] == before
    assert heard.figures.cut == 0
    assert set(heard.outcomes) <= {ANSWERED, WHOLE, "503"}, heard.outcomes  # Ray Serve replaces its only replica
    assert heard.figures.gap < 20  # s; 12 as a rule, with the proxy and without it: callers wait for the new replica


def _renamed(serve_config: str, model: str) -> str:
    """Return a configuration of Ray Serve whose model goes by another name."""
    config = yaml.safe_load(serve_config)
    environment = config["applications"][0].setdefault("runtime_env", {}).setdefault("env_vars", {})
    environment["SERVING_MODEL_NAME"] = model
    return str(yaml.safe_dump(config))


def test_a_worker_that_is_killed_comes_back_and_its_route_was_never_gone(served: World, table: Table):
    workers = served.workers()
    with table.calling("its one worker killed", served) as heard:
        served.kill(workers[0])
        until("another worker is there", lambda: served.replaced(WORKER, workers), LONG, 0.5)
        until("it answers", lambda: served.asked() == ANSWERED, LONG, 0.2)
        answered = heard.outcomes[ANSWERED]
        until("callers are answered", lambda: heard.outcomes[ANSWERED] > answered + 50, LONG)
    assert "404" not in heard.outcomes, heard.outcomes


@pytest.mark.whole
def test_a_head_that_is_killed_without_redis_takes_its_worker_along_and_all_come_back(served: World, table: Table):
    heads, workers = served.pods(HEAD), served.workers()
    with table.calling("its head killed, without Redis", served) as heard:
        served.kill(heads[0])
        until("another head is there", lambda: served.replaced(HEAD, heads), LONG, 0.5)
        until("its worker has begun again", lambda: served.begun() != served.begun(workers), LONG, 0.5)
        until("it answers", lambda: served.asked() == ANSWERED, LONG, 0.2)
        answered = heard.outcomes[ANSWERED]
        until("callers are answered", lambda: heard.outcomes[ANSWERED] > answered + 50, LONG)
    assert "404" not in heard.outcomes, heard.outcomes


@pytest.mark.whole
def test_a_model_that_is_suspended_says_so_and_is_back_when_it_is_resumed(served: World, table: Table):
    if "suspend" not in served.known():
        pytest.skip("the RayService of this KubeRay has no spec.suspend: 1.7 has it")
    with table.calling("suspended, and resumed", served) as heard:
        served.patch({"suspend": True})
        until("it does not answer", lambda: served.asked() == "503", LONG, 0.2)
        until("its pods are gone", lambda: not served.workers(), LONG, 0.5)
        served.patch({"suspend": False})
        until("it answers", lambda: served.asked() == ANSWERED, LONG, 0.2)
    assert "404" not in heard.outcomes, heard.outcomes


def test_an_application_that_cannot_start_takes_nothing_from_the_one_that_runs(served: World, table: Table):
    with table.calling("an application that cannot start", served) as heard:
        done = served.deploy("four", "--force", engine="nonsense")  # the other serveConfigV2 was not its own
    assert done.returncode == 1, done.stdout
    assert "Ray Serve could not deploy it" in done.stderr, done.stderr
    assert set(heard.outcomes) == {ANSWERED, WHOLE}, heard.outcomes


def test_a_model_that_is_deleted_is_unknown_at_once(served: World, table: Table):
    with table.calling("deleted", served) as heard:
        served.running.kubectl("-n", served.namespace, "delete", "rayservice", NAME, "--wait=false")
        until("its route is gone", lambda: served.asked() == "404", LONG)
    assert heard.outcomes[ANSWERED] > 0
