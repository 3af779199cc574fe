"""How far a RayService has come, told by its own status, its Pods and Events."""

from dataclasses import replace

import pytest

from rayproxy.checkpoint.progress import Progress, Story, progress
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.checkpoint.stages import ANSWERED, STAGES, Observed
from rayproxy.checkpoint.wait import follow
from rayproxy.kube.api import ApiError
from tests.support import stories


def rayservice(application=None, *, message="", deployment="", ready=None, pending="", generation=1, observed=1):
    """Return a RayService whose active cluster runs `application`, a status of Ray Serve."""
    deployments = {"a": {"status": "DEPLOY_FAILED", "message": deployment}} if deployment else {}
    found = {"status": application, "message": message, "serveDeploymentStatuses": deployments}
    applications = {"default": found} if application else {}
    status = {
        "observedGeneration": observed,
        "activeServiceStatus": {"rayClusterName": "m-old", "applicationStatuses": applications},
        "pendingServiceStatus": {"rayClusterName": pending},
    }
    reason = ready or "Initializing"
    status["conditions"] = [{"type": "Ready", "status": "False", "reason": reason, "message": message}]
    return {"metadata": {"name": "m", "generation": generation}, "status": status}


def pod(kind, state=None, *, pulled=True, ready=False):
    container = {"imageID": "sha256:1" if pulled else "", "state": state or {"running": {}}}
    return {
        "metadata": {"name": f"m-{kind}", "labels": {"ray.io/node-type": kind}},
        "status": {
            "phase": "Running" if "running" in container["state"] else "Pending",
            "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def initializing(reason, message=""):
    """Return a worker whose container waits for KubeRay's `wait-gcs-ready`, which has the worker's own image."""
    found = pod("worker", waiting("PodInitializing"), pulled=False)
    found["status"]["initContainerStatuses"] = [{"imageID": "", "state": waiting(reason, message)}]
    return found


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
        ("routed", Observed(rayservice("RUNNING"), BOTH_UP, service=SERVICE, proxy=ANSWERED)),
        # An upgrade: all is the old cluster's until KubeRay has seen it, Service and answers until nothing is pending.
        (
            None,
            Observed(rayservice("RUNNING", generation=2), BOTH_UP, service=SERVICE, proxy=ANSWERED),
        ),
        (None, Observed(rayservice("RUNNING", pending="m-new"), service=SERVICE, proxy=ANSWERED)),
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
        *(
            (
                Observed(rayservice(), (pod("head", ready=True), initializing(reason, "no such image"))),
                f"Pod m-worker: {reason}: no such image",
            )
            for reason in ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
        ),
        (
            Observed(rayservice("DEPLOY_FAILED", message="No module named x\n")),
            "Ray Serve could not deploy it: No module named x",
        ),
        (
            Observed(
                rayservice("DEPLOY_FAILED", message="Traceback:\n \x1b[36mray::build()\x1b[39m\nKeyError: 'x'\n")
            ),
            "Ray Serve could not deploy it: KeyError: 'x'\nTraceback:\n ray::build()\nKeyError: 'x'",
        ),
        (
            Observed(
                rayservice(
                    "DEPLOY_FAILED",
                    message="Failed to update the deployments ['a'].",
                    deployment="x\nValueError: no\n",
                )
            ),
            "Ray Serve could not deploy it: ValueError: no\nx\nValueError: no",
        ),
        (
            Observed(rayservice(ready="ValidationFailed", message="name too long", generation=2)),
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
    assert not progress(Observed(rayservice(), (initializing(state),))).failure


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


def warning(reason, second, first=None, name="m"):
    at = "2026-01-01T00:00:{:02}Z".format
    return {
        "type": "Warning",
        "reason": reason,
        "message": f"{reason} {second}",
        "firstTimestamp": at(second if first is None else first),
        "lastTimestamp": at(second),
        "involvedObject": {"name": name},
    }


def test_a_warning_about_a_pod_is_old_news_once_the_worker_is_up():
    events = (warning("FailedScheduling", 40, name="m-worker"),)

    assert progress(Observed(rayservice(), events=events)).detail == "m-worker: FailedScheduling: FailedScheduling 40"
    assert progress(Observed(rayservice(), BOTH_UP, events)).detail == ""


@pytest.mark.fault(95)
def test_a_warning_of_kuberay_that_each_healthy_start_has_is_told_only_where_it_lasts():
    healthy = (warning("FailedToUpdateServeApplications", 2), warning("FailedToUpdateServeApplications", 12))
    lasting = (*healthy, warning("FailedToUpdateServeApplications", 33))
    counted = (warning("FailedToUpdateService", 45, first=10),)

    assert progress(Observed(rayservice(), BOTH_UP, healthy)).detail == ""
    assert progress(Observed(rayservice(), BOTH_UP, lasting)).detail.endswith("FailedToUpdateServeApplications 33")
    assert progress(Observed(rayservice(), BOTH_UP, counted)).detail.startswith("m: FailedToUpdateService: ")


@pytest.mark.fault(168)
def test_why_no_pod_can_be_made_is_told_at_once_and_until_one_is():
    refused = warning("FailedToCreateWorkerPod", 3, name="m-old")
    made = warning("CreatedWorkerPod", 4, name="m-old") | {"type": "Normal"}
    head_is_pulled = warning("Pulled", 9, name="m-head") | {"type": "Normal"}
    again = warning("FailedToCreateWorkerPod", 4, name="m-old")

    said = "m-old: FailedToCreateWorkerPod: FailedToCreateWorkerPod"
    assert progress(Observed(rayservice(), events=(refused, head_is_pulled))).detail == f"{said} 3"
    assert progress(Observed(rayservice(), events=(refused, made))).detail == ""
    assert progress(Observed(rayservice(), events=(made, again))).detail == f"{said} 4"
    assert progress(Observed(rayservice(), events=(again, made))).detail == f"{said} 4"


@pytest.mark.fault(168)
def test_a_worker_that_cannot_be_made_beside_one_that_runs_is_told_where_that_lasts():
    refused = warning("FailedToCreateWorkerPod", 3, name="m-old")
    lasting = warning("FailedToCreateWorkerPod", 40, name="m-old")

    assert progress(Observed(rayservice(), BOTH_UP, (refused,))).detail == ""
    assert progress(Observed(rayservice(), BOTH_UP, (refused, lasting))).detail.endswith("FailedToCreateWorkerPod 40")


def test_a_change_that_kuberay_has_not_seen_is_told_and_old_troubles_end_nothing():
    crashing = (pod("worker", waiting("CrashLoopBackOff")),)
    unseen = rayservice("DEPLOY_FAILED", ready="ValidationFailed", generation=2)
    unseen["status"]["conditions"][0]["observedGeneration"] = 1

    assert progress(Observed(unseen, crashing)) == Progress(0, "KubeRay has not looked at it yet")
    assert (
        progress(Observed({"metadata": {"name": "m", "generation": 1}})).detail == "KubeRay has not looked at it yet"
    )


def test_kuberay_before_1_3_need_not_note_that_it_has_seen_a_change():
    old = rayservice("RUNNING", generation=2)
    del old["status"]["conditions"]

    assert progress(Observed(old, BOTH_UP, service=SERVICE)).reached == STAGES.index("Service there") + 1


def test_a_refusal_that_was_mended_ends_nothing():
    assert not progress(Observed(rayservice(ready="ValidationFailed", message="was too long"))).failure


def test_kuberay_before_1_3_is_told_by_its_word_and_its_newest_event():
    waits = rayservice()
    waits["status"]["serviceStatus"] = "WaitForServeDeploymentReady"
    normal = warning("ServiceNotReady", 3) | {"type": "Normal", "message": "The service is not ready yet."}

    assert progress(Observed(waits)).detail == "WaitForServeDeploymentReady"
    said = progress(Observed(waits, events=(normal, warning("Old", 1)))).detail
    assert said == "WaitForServeDeploymentReady: The service is not ready yet."


def test_another_controller_that_is_in_charge_is_named():
    elsewhere = rayservice() | {"spec": {"managedBy": "kueue.x-k8s.io/multikueue"}}
    here = rayservice() | {"spec": {"managedBy": "ray.io/kuberay-operator"}}

    assert progress(Observed(elsewhere)).detail == (
        "spec.managedBy is kueue.x-k8s.io/multikueue: that controller brings it up, not this cluster's KubeRay"
    )
    assert progress(Observed(here)).detail == ""


def test_what_is_suspended_ends_the_wait_unless_a_queue_did_it():
    suspended = rayservice() | {"spec": {"suspend": True}}
    assert progress(Observed(suspended)).failure == "it is suspended: set spec.suspend to false, and KubeRay starts it"

    suspended["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    assert progress(Observed(suspended)).failure == ""
    assert "it waits in a queue" in progress(Observed(suspended)).detail

    by_kueue = rayservice() | {"spec": {"rayClusterConfig": {"suspend": True}}}
    assert progress(Observed(by_kueue)).failure == ""
    assert "it waits in a queue" in progress(Observed(by_kueue)).detail


def test_what_a_deployment_says_is_told_in_one_bounded_line():
    deploying = rayservice("DEPLOYING")
    (application,) = deploying["status"]["activeServiceStatus"]["applicationStatuses"].values()
    application["serveDeploymentStatuses"] = {"Llama": {"status": "UPDATING", "message": "first\n" + "x" * 1000}}

    said = progress(Observed(deploying, BOTH_UP)).detail
    assert said.startswith("Llama is UPDATING: xxx")
    assert len(said) < 310


def test_what_was_said_of_the_rayservice_before_it_was_applied_again_counts_no_more():
    applied = {"manager": "rayproxy", "operation": "Apply", "time": "2026-01-01T00:00:05Z"}
    seen = {"metadata": {"name": "m", "managedFields": [applied]}}
    event = {"type": "Warning", "reason": "InvalidRayServiceSpec", "involvedObject": {"name": "m"}}

    before = progress(Observed(seen, events=(event | {"lastTimestamp": "2026-01-01T00:00:04Z"},)))
    since = progress(Observed(seen, events=(event | {"eventTime": "2026-01-01T00:00:05.000001Z"},)))

    assert before == Progress(0, "KubeRay has not looked at it yet")
    assert since.failure.startswith("KubeRay refuses it")


CONFLICT = "NameConflict: the name m belongs to another namespace's RayService, which had it first: rename this one"
REJECTED = f"the proxy rejects its route: {CONFLICT}"


def route_event(reason, second, message="", uid="1", component="rayproxy"):
    event = warning(reason, second) | {"message": message, "source": {"component": component}}
    return event | {"involvedObject": {"name": "m", "uid": uid}}


def serving(*events, proxy=None, applied=None):
    """Return a look at a RayService that runs and has its Service, applied in a second of 2026."""
    seen = rayservice("RUNNING")
    seen["metadata"]["uid"] = "1"
    if applied is not None:
        time = f"2026-01-01T00:00:{applied:02}Z"
        seen["metadata"]["managedFields"] = [{"manager": "rayproxy", "operation": "Apply", "time": time}]
    return Observed(seen, BOTH_UP, events, SERVICE, proxy)


def starting(seen):
    """Return the same look before the application ran."""
    runs = seen.rayservice["status"]["activeServiceStatus"]
    status = seen.rayservice["status"] | {"activeServiceStatus": runs | {"applicationStatuses": {}}}
    return replace(seen, rayservice=seen.rayservice | {"status": status}, service=None)


@pytest.mark.fault(131)
def test_the_answer_of_another_namespaces_model_is_not_taken_for_that_of_one_whose_name_the_proxy_rejects():
    rejected = route_event("RouteRejected", 5, CONFLICT)

    assert progress(serving(rejected, proxy=ANSWERED)).failure == REJECTED
    assert progress(serving(rejected, proxy="GET x: 503")).failure == REJECTED
    assert progress(starting(serving(rejected, proxy="GET x: 503", applied=5))).failure == REJECTED


@pytest.mark.fault(131)
def test_where_no_proxy_is_asked_a_rejection_is_told_and_ends_nothing():
    rejected = route_event("RouteRejected", 5, CONFLICT)

    assert progress(serving(rejected)) == Progress(STAGES.index("Service there") + 1, REJECTED)
    assert progress(starting(serving(rejected))).detail == REJECTED


@pytest.mark.fault(131)
@pytest.mark.parametrize(
    "newer",
    [
        route_event("RouteAccepted", 6),
        route_event("RoutePending", 6),
        route_event("RouteUnavailable", 6),
        route_event("RouteAccepted", 5),  # of two of one second nobody knows which is the newer one
    ],
)
def test_what_the_proxy_said_last_counts(newer):
    rejected = route_event("RouteRejected", 5, CONFLICT)

    assert progress(serving(rejected, newer, proxy=ANSWERED)).reached == len(STAGES)
    assert progress(serving(newer, rejected | {"lastTimestamp": "2026-01-01T00:00:07Z"}, proxy=ANSWERED)).failure


@pytest.mark.parametrize(
    "event",
    [
        route_event("RouteRejected", 5, CONFLICT, uid="0"),
        route_event("RouteRejected", 5, CONFLICT, component="another-proxy"),
        warning("RouteRejected", 5),
        route_event("RouteRefused", 5),
    ],
)
def test_what_others_say_or_of_another_or_kuberays_words_again_reject_no_route(event):
    assert progress(serving(event, proxy=ANSWERED)).reached == len(STAGES)


def test_a_rejection_from_before_the_change_counts_from_when_the_service_is_there():
    """Until then it may be about what the change mends, and the proxy says nothing again while it stays."""
    old = serving(route_event("RouteRejected", 5, CONFLICT), proxy=ANSWERED, applied=6)

    assert (progress(starting(old)).failure, progress(starting(old)).detail) == ("", "")
    assert progress(old).failure == REJECTED


@pytest.mark.parametrize("reason", ["NameHeld", "ChangesTooOften"])
def test_a_rejection_that_passes_by_itself_ends_nothing_but_its_route_is_not_there(reason):
    held = route_event("RouteRejected", 5, f"{reason}: wait")

    told = Progress(STAGES.index("Service there") + 1, f"the proxy rejects its route: {reason}: wait")
    assert progress(serving(held, proxy=ANSWERED)) == told
    assert progress(serving(held, proxy="GET x: 503")) == told


def test_what_comes_in_place_of_an_answer_is_told_once_the_service_is_there():
    seen = serving(proxy="GET http://proxy/apis/rayservice/m/-/healthz: 401 Unauthorized")

    assert progress(seen).detail == seen.proxy
    assert progress(starting(seen)).detail == ""


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_an_api_server_that_is_away_for_a_moment_ends_nothing(status, monkeypatch):
    looks = iter([Observed(rayservice(), BOTH_UP), ApiError("away", status), Observed(rayservice("RUNNING"))])
    monkeypatch.setattr("time.sleep", lambda _: None)
    lines: list[str] = []

    def look():
        seen = next(looks)
        if isinstance(seen, ApiError):
            raise seen
        return seen

    follow(look, lines.append, Story(STAGES.index("app running") + 1), timeout=60)

    assert [line.partition(" after ")[0] for line in lines] == ["[3/5] worker up", "[5/5] app running"]


def test_what_the_api_server_forbids_ends_the_wait():
    def look():
        raise ApiError("forbidden", 403)

    with pytest.raises(ApiError, match="forbidden"):
        follow(look, lambda _: None, Story(1), timeout=60)


def test_each_change_is_one_line_until_the_goal(monkeypatch):
    looks = iter(
        [
            Observed(rayservice()),
            Observed(rayservice(), BOTH_UP),
            Observed(rayservice(), BOTH_UP),
            Observed(rayservice("RUNNING"), BOTH_UP, service=SERVICE, proxy=ANSWERED),
        ]
    )
    monkeypatch.setattr("time.sleep", lambda _: None)
    lines: list[str] = []

    follow(lambda: next(looks), lines.append, Story(len(STAGES)), timeout=60)

    assert [line.split(" after ")[0] for line in lines] == [
        "[0/7] applied",
        "[3/7] worker up",
        "[7/7] routed",
    ]


def test_a_timeout_names_the_stage_that_did_not_come(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)

    with pytest.raises(RefusedError, match=r"not there after 0\.01 s: waiting for 'model loading'"):
        follow(lambda: Observed(rayservice(), BOTH_UP), lambda _: None, Story(len(STAGES)), timeout=0.01)


def test_a_failure_ends_the_wait_at_once():
    seen = Observed(rayservice(), (pod("worker", waiting("InvalidImageName")),))

    with pytest.raises(RefusedError, match="Pod m-worker: InvalidImageName"):
        follow(lambda: seen, lambda _: None, Story(len(STAGES)), timeout=60)


def lines_of(story, *heard):
    """Return what is told of (second, stage, detail)."""
    lines = []
    for second, stage, detail in heard:
        story, line = story.hear(Progress(stage, detail), second)
        lines += [line] if line else []
    return lines


@pytest.mark.fault(96)
def test_the_story_leads_forward_alone():
    heard = [(0, 1, ""), (1, 0, ""), (2, 3, ""), (9, 1, "the worker is gone")]

    assert [line[:5] for line in lines_of(Story(6), *heard)] == ["[1/6]", "[3/6]", "[3/6]"]


def test_what_is_seen_beside_the_stage_is_told_again_after_a_while_and_a_change_of_it_soon():
    heard = [(0, 3, "a"), (1, 3, "b"), (4, 3, "c"), (5, 3, "c"), (34, 3, "c"), (35, 3, "c")]

    assert [(line.split(" after ")[1]) for line in lines_of(Story(6), *heard)] == [
        "0 s, waiting for 'model loading': a",
        "5 s, waiting for 'model loading': c",
        "35 s, waiting for 'model loading': c",
    ]


@pytest.mark.fault(96)
def test_where_something_ran_before_the_goal_has_to_hold():
    story = Story(6, settle=5)

    assert lines_of(story, (0, 6, ""), (2, 6, ""), (3, 4, ""), (4, 6, ""), (8, 6, ""))[-1].startswith("[5/6]")
    assert lines_of(story, (0, 6, ""), (3, 4, ""), (4, 6, ""), (9, 6, ""))[-1] == "[6/6] Service there after 9 s"


@pytest.mark.fault(132)
def test_where_something_ran_before_a_failure_has_to_hold_too():
    old, new = Progress(0, failure="what was wrong before"), Progress(0, failure="what is wrong now")
    story, failures = Story(6, settle=5), []
    for second, now in ((0, old), (1, old), (2, Progress(4)), (3, new), (7, new), (8, new)):
        story, _ = story.hear(now, second)
        failures.append(story.failure)

    assert failures == ["", "", "", "", "", "what is wrong now"]


@pytest.mark.fault(132)
def test_a_fix_is_not_said_to_have_failed_in_the_words_of_what_it_mends():
    assert "the fault that this very change mends" not in stories.told(stories.MENDED)


@pytest.mark.fault(96)
@pytest.mark.parametrize("name", stories.NAMES)
def test_what_is_told_of_a_recording_of_kuberay_is_what_its_golden_file_says(name):
    assert stories.told(name) == stories.path(name).read_text(encoding="utf-8"), "run make golden"
