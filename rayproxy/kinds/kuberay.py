"""What KubeRay says of a RayService that does not answer, or not as it should, in one line. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from rayproxy.objects import condition, dig, instant, last_line, text

MAX_WORDS = 400  # characters of another's message that are kept: an Event and a line of `routes` hold no more

MOST = 5  # applications of a cluster that are spoken of
CLUSTERS = ("activeServiceStatus", "pendingServiceStatus")
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")  # what Ray Serve says of an application that is not on its way


def words(obj: object) -> str:
    """Return its words where it is not ready, or where not all of its applications run, else ""."""
    return "; ".join(filter(None, (_not_ready(obj), *_applications(obj))))[:MAX_WORDS]


def failure(obj: object) -> str:
    """Return what Ray Serve says of an application that has failed, of the newer cluster first; "" where none has.

    A RayService that is ready has its Service: its applications may come and go, and that decides nothing more.
    """
    if condition(obj, "Ready").get("status") == "True":
        return ""
    failed = (found for found in _found(obj, CLUSTERS[::-1]) if text(found[1], "status") in FAILED)
    return next((_application(*each) for each in failed), "")[:MAX_WORDS]


def cause(application: object) -> str:
    """Return the message of a deployment that is not well, else the application's own.

    Of one that could not start, the application itself knows the name alone.
    """
    deployments = dig(application, "serveDeploymentStatuses")
    found = deployments.values() if isinstance(deployments, dict) else ()
    unwell = (each for each in found if text(each, "status") != "HEALTHY")
    said = (text(each, "message") for each in (*unwell, application))
    return next(filter(last_line, said), "")


def _not_ready(obj: object) -> str:
    ready = condition(obj, "Ready")
    if ready.get("status") != "False":
        return ""
    since = instant(text(ready, "lastTransitionTime"))
    why = (last_line(text(ready, name)) for name in ("reason", "message"))
    return ": ".join(filter(None, (f"not ready since {since}" if since else "not ready", *why)))


def _applications(obj: object) -> Iterator[str]:
    return (_application(name, application) for name, application in _found(obj, CLUSTERS))


def _found(obj: object, clusters: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    for cluster in clusters:
        found = dig(obj, "status", cluster, "applicationStatuses")
        for name, application in islice(found.items(), MOST) if isinstance(found, dict) else ():
            yield last_line(str(name)), application


def _application(name: str, application: object) -> str:
    """Return its state, and what is said of it; "" where it runs and nothing is said."""
    said = last_line(cause(application))
    state = last_line(text(application, "status"))
    if state == "RUNNING" and not said:
        return ""
    return ": ".join(filter(None, (f"its application {name} is {state or 'in no state'}", said)))
