"""How far a RayService has come, told by its own status, its Pods and Events."""

import pytest

from rayproxy.checkpoint.progress import STAGES, Observed, progress
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.checkpoint.wait import follow
from rayproxy.kube.api import ApiError


def rayservice(application=None, *, message="", ready=None, pending="", generation=1, observed=1):
    """Return a RayService whose active cluster runs `application`, a status of Ray Serve."""
    applications = {"default": {"status": application, "message": message}} if application else {}
    status = {
        "observedGeneration": observed,
        "activeServiceStatus": {"rayClusterName": "m-old", "applicationStatuses": applications},
        "pendingServiceStatus": {"rayClusterName": pending},
    }
    if ready:
        status["conditions"] = [{"type": "Ready", "status": "False", "reason": ready, "message": message}]
    return {"metadata": {"name": "m", "generation": generation}, "status": status}


def pod(kind, state=None, *, pulled=True, ready=False):
    container = {"imageID": "sha256:1" if pulled else "", "state": state or {"running": {}}}
    return {
        "metadata": {"name": f"m-{kind}", "labels": {"ray.io/node-type": kind}},
        "status": {
            "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


CREATING = waiting("ContainerCreating")
SERVICE = {"metadata": {"name": "m-service"}}
BOTH_UP = (pod("head", ready=True), pod("worker"))


@pytest.mark.parametrize(
    ("stage", "seen"),
    [
        (None, Observed(rayservice())),
        (None, Observed(rayservice(), (pod("head", CREATING, pulled=False),))),
        (None, Observed(rayservice(), (pod("head"), pod("worker", CREATING, pulled=False)))),
        ("image pulled", Observed(rayservice(), (pod("head"), pod("worker")))),
        ("head up", Observed(rayservice(), (pod("head", ready=True), pod("worker", CREATING, pulled=False)))),
        ("worker up", Observed(rayservice(), BOTH_UP)),
        ("model loading", Observed(rayservice("DEPLOYING"), BOTH_UP)),
        ("app running", Observed(rayservice("RUNNING"), BOTH_UP)),
        ("app running", Observed(rayservice("RUNNING"))),
        ("Service there", Observed(rayservice("RUNNING"), BOTH_UP, service=SERVICE)),
        ("routed", Observed(rayservice("RUNNING"), BOTH_UP, service=SERVICE, answered=True)),
        # An upgrade: Service and answers are the old cluster's until nothing is pending.
        (
            "app running",
            Observed(rayservice("RUNNING", generation=2), BOTH_UP, service=SERVICE, answered=True),
        ),
        (None, Observed(rayservice("RUNNING", pending="m-new"), service=SERVICE, answered=True)),
    ],
)
def test_the_furthest_stage_that_is_proven_is_the_one_reached(stage, seen):
    assert progress(seen).reached == (STAGES.index(stage) + 1 if stage else 0)


@pytest.mark.parametrize(
    ("seen", "failure"),
    [
        (Observed(None), "the RayService is gone"),
        (
            Observed(rayservice(), (pod("worker", waiting("ImagePullBackOff", "no such image")),)),
            "Pod m-worker: ImagePullBackOff: no such image",
        ),
        (
            Observed(rayservice(), (pod("head", waiting("CrashLoopBackOff", "back-off 10s")),)),
            "Pod m-head: CrashLoopBackOff: back-off 10s",
        ),
        (
            Observed(rayservice("DEPLOY_FAILED", message="No module named x\n")),
            "Ray Serve could not deploy it: No module named x",
        ),
        (
            Observed(rayservice(ready="ValidationFailed", message="name too long")),
            "KubeRay gave up: ValidationFailed: name too long",
        ),
        (
            Observed(
                {"metadata": {"name": "m"}},
                events=({"reason": "InvalidRayServiceMetadata", "message": "bad name"},),
            ),
            "KubeRay refuses it: bad name",
        ),
    ],
)
def test_what_only_a_person_can_help_is_a_failure_with_its_reason(seen, failure):
    assert progress(seen).failure == failure


@pytest.mark.parametrize("state", ["ErrImagePull", "ContainerCreating", "PodInitializing"])
def test_what_kubelet_tries_again_is_no_failure(state):
    assert not progress(Observed(rayservice(), (pod("head", waiting(state)),))).failure


def test_the_newest_warning_says_why_it_takes_so_long():
    events = tuple(
        {
            "type": kind,
            "reason": reason,
            "message": reason,
            "lastTimestamp": f"2026-01-01T00:00:0{second}Z",
            "involvedObject": {"name": "m-worker"},
        }
        for second, (kind, reason) in enumerate(
            [("Warning", "FailedMount"), ("Warning", "FailedScheduling"), ("Normal", "Pulling")]
        )
    )

    assert progress(Observed(rayservice(), events=events)).detail == "m-worker: FailedScheduling: FailedScheduling"


def test_a_warning_about_a_pod_is_old_news_once_the_worker_is_up():
    about_pod = {"type": "Warning", "reason": "FailedScheduling", "involvedObject": {"name": "m-worker"}}
    about_it = {"type": "Warning", "reason": "FailedToUpdateService", "involvedObject": {"name": "m"}}

    assert progress(Observed(rayservice(), BOTH_UP, (about_pod,))).detail == ""
    assert progress(Observed(rayservice(), BOTH_UP, (about_pod, about_it))).detail.startswith("m: FailedToUpdate")


def test_what_was_said_of_the_rayservice_before_it_was_applied_again_counts_no_more():
    applied = {"manager": "rayproxy", "operation": "Apply", "time": "2026-01-01T00:00:05Z"}
    seen = {"metadata": {"name": "m", "managedFields": [applied]}}
    event = {"type": "Warning", "reason": "InvalidRayServiceSpec", "involvedObject": {"name": "m"}}

    before = progress(Observed(seen, events=(event | {"lastTimestamp": "2026-01-01T00:00:04Z"},)))
    since = progress(Observed(seen, events=(event | {"eventTime": "2026-01-01T00:00:05.000001Z"},)))

    assert (before.failure, before.detail) == ("", "")
    assert since.failure.startswith("KubeRay refuses it")


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_an_api_server_that_is_away_for_a_moment_ends_nothing(status, monkeypatch):
    looks = iter([Observed(rayservice(), BOTH_UP), ApiError("away", status), Observed(rayservice("RUNNING"))])
    monkeypatch.setattr("time.sleep", lambda _: None)
    lines = []

    def look():
        seen = next(looks)
        if isinstance(seen, ApiError):
            raise seen
        return seen

    follow(look, lines.append, goal=STAGES.index("app running") + 1, timeout=60)

    assert [line.partition(" after ")[0] for line in lines] == ["[3/5] worker up"] * 2 + ["[5/5] app running"]
    assert lines[1].endswith(": away")


def test_what_the_api_server_forbids_ends_the_wait():
    def look():
        raise ApiError("forbidden", 403)

    with pytest.raises(ApiError, match="forbidden"):
        follow(look, lambda _: None, goal=1, timeout=60)


def test_each_change_is_one_line_until_the_goal(monkeypatch):
    looks = iter(
        [
            Observed(rayservice()),
            Observed(rayservice(), BOTH_UP),
            Observed(rayservice(), BOTH_UP),
            Observed(rayservice("RUNNING"), BOTH_UP, service=SERVICE, answered=True),
        ]
    )
    monkeypatch.setattr("time.sleep", lambda _: None)
    lines = []

    follow(lambda: next(looks), lines.append, goal=len(STAGES), timeout=60)

    assert [line.split(" after ")[0] for line in lines] == [
        "[0/7] applied",
        "[3/7] worker up",
        "[7/7] routed",
    ]


def test_a_timeout_names_the_stage_that_did_not_come(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)

    with pytest.raises(RefusedError, match=r"not there after 0\.01 s: waiting for 'model loading'"):
        follow(lambda: Observed(rayservice(), BOTH_UP), lambda _: None, goal=len(STAGES), timeout=0.01)


def test_a_failure_ends_the_wait_at_once():
    seen = Observed(rayservice(), (pod("worker", waiting("InvalidImageName")),))

    with pytest.raises(RefusedError, match="Pod m-worker: InvalidImageName"):
        follow(lambda: seen, lambda _: None, goal=len(STAGES), timeout=60)
