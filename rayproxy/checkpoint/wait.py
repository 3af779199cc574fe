"""Follow a RayService until the first answer through the proxy, or a clear failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

import urllib3

from rayproxy.checkpoint.cluster import Cluster
from rayproxy.checkpoint.manifest import service_name
from rayproxy.checkpoint.progress import STAGES, Observed, Progress, current_cluster, progress
from rayproxy.checkpoint.refusal import RefusedError
from rayproxy.kube.api import ApiError

_POLL_SECONDS = 1.0


def observe(cluster: Cluster, name: str, proxy: str | None) -> Observed:
    """Take one look at the RayService, what belongs to it, and its route."""
    rayservice = cluster.rayservice(name)
    if rayservice is None:
        return Observed(None)
    ray_cluster = current_cluster(rayservice)
    pods = cluster.pods(ray_cluster) if ray_cluster else []
    names = [name, *(pod["metadata"]["name"] for pod in pods)]
    return Observed(
        rayservice=rayservice,
        pods=tuple(pods),
        events=tuple(event for about in names for event in cluster.events(about)),
        service=cluster.service(service_name(name)),
        answered=bool(proxy) and answers(f"{proxy}/apis/rayservice/{name}/-/healthz"),
    )


def answers(url: str) -> bool:
    """Tell whether Ray Serve answers at `url`."""
    try:
        answer = urllib3.request("GET", url, timeout=5, retries=False, redirect=False)
    except urllib3.exceptions.HTTPError:
        return False
    # Ray Serve's own words: no error page of a proxy in between is taken for it.
    return answer.status == HTTPStatus.OK and answer.data == b"success"


def follow(look: Callable[[], Observed], report: Callable[[str], None], *, goal: int, timeout: float) -> None:
    """Look again and again until `goal` stages are reached; report each change in a line.

    Raises RefusedError with the reason where it fails, or with the stage where `timeout` seconds are over.
    """
    started = time.monotonic()
    last: Progress | None = None
    while True:
        now = _look_once(look, last)
        if now.failure:
            raise RefusedError(now.failure)
        if now != last:
            report(_line(now, goal, time.monotonic() - started))
            last = now
        if now.reached >= goal:
            return
        if time.monotonic() - started > timeout:
            raise RefusedError(
                f"not there after {timeout:g} s: waiting for '{STAGES[now.reached]}'"
                + (f"; last seen: {now.detail}" if now.detail else "")
            )
        time.sleep(_POLL_SECONDS)


def _look_once(look: Callable[[], Observed], last: Progress | None) -> Progress:
    try:
        return progress(look())
    except ApiError as error:
        if HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.TOO_MANY_REQUESTS:
            raise
        # An API server that is away for a moment says nothing about the model.
        return replace(last or Progress(0), detail=str(error))


def _line(now: Progress, goal: int, seconds: float) -> str:
    stage = STAGES[now.reached - 1] if now.reached else "applied"
    waiting = f", waiting for '{STAGES[now.reached]}'" if now.reached < goal else ""
    detail = f": {now.detail}" if now.detail and now.reached < goal else ""
    return f"[{now.reached}/{goal}] {stage} after {seconds:.0f} s{waiting}{detail}"
