"""Follow a RayService until the first answer through the proxy, or a clear failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus

import urllib3

from rayproxy.checkpoint.cluster import Cluster
from rayproxy.checkpoint.manifest import service_name
from rayproxy.checkpoint.progress import Progress, Story, progress
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.checkpoint.stages import ANSWERED, STAGES, Observed, current_cluster, serve_service
from rayproxy.kube.api import ApiError
from rayproxy.objects import plain

_POLL_SECONDS = 1.0
SETTLE_SECONDS = 5.0  # for which the goal, or a failure, holds where something ran before


def observe(cluster: Cluster, name: str, proxy: str | None) -> Observed:
    """Take one look at the RayService, what belongs to it, and its route."""
    rayservice = cluster.rayservice(name)
    if rayservice is None:
        return Observed(None)
    ray_cluster = current_cluster(rayservice)
    pods = cluster.pods(ray_cluster) if ray_cluster else []
    # KubeRay says about the RayCluster what keeps it from making Pods: a quota, say, or Pod Security.
    names = [name, *filter(None, [ray_cluster]), *(pod["metadata"]["name"] for pod in pods)]
    return Observed(
        rayservice=rayservice,
        pods=tuple(pods),
        events=tuple(event for about in names for event in cluster.events(about)),
        service=cluster.service(serve_service(rayservice, service_name(name))),
        proxy=unanswered(f"{proxy}/apis/rayservice/{name}/-/healthz") if proxy else None,
    )


def unanswered(url: str) -> str:
    """Return in one line why Ray Serve does not answer at `url`, ANSWERED where it does."""
    try:
        answer = urllib3.request("GET", url, timeout=5, retries=False, redirect=False)
    except urllib3.exceptions.HTTPError as error:
        return _in_a_line(f"GET {url}: {type(error).__name__}: {error}")
    # Ray Serve's own words: no error page of a proxy in between is taken for it.
    if answer.status == HTTPStatus.OK and answer.data == b"success":
        return ANSWERED
    return _in_a_line(f"GET {url}: {answer.status} {_words(answer)}")


def _words(answer: urllib3.BaseHTTPResponse) -> str:
    """Return what the proxy says, or somebody in its place."""
    if where := answer.headers.get("Location"):
        return f"to {where}"
    try:
        error = answer.json()["error"]
        return f"{error['type']}: {error['message']}"
    except (ValueError, RecursionError, LookupError, TypeError):
        return f"{answer.reason or ''} in place of Ray Serve's 'success'"


def _in_a_line(words: str) -> str:
    return " ".join(plain(words).split())


def follow(look: Callable[[], Observed], report: Callable[[str], None], story: Story, *, timeout: float) -> None:
    """Look again and again until the goal of the `story` is reached; report what is worth a line.

    Raises RefusedError with the reason where it fails, or with the stage where `timeout` seconds are over.
    """
    started = time.monotonic()
    while not story.over:
        now = _look_once(look, story.told)
        seconds = time.monotonic() - started
        story, line = story.hear(now, seconds)
        if story.failure:
            raise RefusedError(story.failure)
        if line:
            report(line)
        if not story.over:
            _refuse_late(now, story, seconds, timeout)
            time.sleep(_POLL_SECONDS)


def _refuse_late(now: Progress, story: Story, seconds: float, timeout: float) -> None:
    if seconds > timeout:
        last = now.failure or now.detail
        seen = f"; last seen: {last}" if last else ""
        raise RefusedError(f"not there after {timeout:g} s: waiting for '{STAGES[story.told.reached]}'{seen}")


def _look_once(look: Callable[[], Observed], last: Progress) -> Progress:
    try:
        return progress(look())
    except ApiError as error:
        if HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.TOO_MANY_REQUESTS:
            raise
        # An API server that is away for a moment says nothing about the model.
        return Progress(max(last.reached, 0), detail=str(error))
