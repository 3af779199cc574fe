"""What KServe says in an object's status, or is asked to do, in words for people. Read from its code, 0.11 to 0.20."""

from __future__ import annotations

import re

from rayproxy.objects import condition, dig, plain, text

UNSEEN, READY = "KServe has not looked at it yet", "KServe says that it is ready"
UNLOOKED = f"{UNSEEN} (where that lasts, its Events say why)"
STOP = "serving.kserve.io/stop"
STOPPED = f"stopped on purpose: remove the annotation {STOP}, and KServe starts it"
WORD = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")  # a reason as Kubernetes has them
MAX_WORDS = 300  # characters of another's message that are kept: an Event and a line of `routes` hold no more


def refusal(obj: object) -> tuple[str, str] | None:
    """Return reason and words where KServe goes no further with the spec."""
    if text(obj, "status", "modelStatus", "transitionStatus") != "InvalidSpec":
        return None
    failure = dig(obj, "status", "modelStatus", "lastFailureInfo")
    return _line(failure, "reason") or "InvalidSpec", _line(failure, "message") or "the spec is not valid"


def waits(obj: object) -> tuple[str, str]:
    """Return what callers are told, and all the words, which begin with that; of the first sign that is there.

    Callers are strangers, and each change of what they are told is a reload: they are told our own words, and of what
    has failed the reason, where that is a word. What a controller says besides may be the last lines of a log.
    """
    if not dig(obj, "status", "conditions"):
        return UNSEEN, UNLOOKED
    return _failed_load(obj) or _component(obj) or _model(obj) or _ingress(obj) or (READY, READY)


def is_to_stop(obj: object) -> bool:
    """Tell whether somebody asks KServe to stop it, by an annotation that may be in capitals."""
    return text(obj, "metadata", "annotations", STOP).lower() == "true"


def is_true(obj: object, kind: str) -> bool:
    """Tell whether a condition is there and True."""
    return condition(obj, kind).get("status") == "True"


def _failed_load(obj: object) -> tuple[str, str] | None:
    """Return what ended the load of the model; a failure before the last success stays in the status."""
    model = dig(obj, "status", "modelStatus")
    transition = text(model, "transitionStatus")
    if transition != "BlockedByFailedLoad" and text(model, "states", "targetModelState") != "FailedToLoad":
        return None
    failure = dig(model, "lastFailureInfo") if transition != "UpToDate" else None
    code = dig(failure, "exitCode")
    ended = f" (exit code {code})" if isinstance(code, int) and not isinstance(code, bool) else ""
    told, words = failed("its model failed to load", failure)
    return told, f"{words}{ended}"


def _component(obj: object) -> tuple[str, str] | None:
    for name in ("Predictor", "Transformer", "Explainer"):
        ready = condition(obj, f"{name}Ready")
        if ready.get("status") == "False":
            return failed(f"its {name.lower()} is not ready", ready)
        if ready.get("status") == "Unknown":
            return waiting(f"its {name.lower()} is being rolled out", ready)
    return None


def _model(obj: object) -> tuple[str, str] | None:
    words = {"Pending": "the server of its model is starting", "Loading": "its model is being loaded"}
    found = words.get(text(obj, "status", "modelStatus", "states", "targetModelState"))
    return (found, found) if found else None


def _ingress(obj: object) -> tuple[str, str] | None:
    knative = condition(obj, "PredictorRouteReady")
    if knative and not is_true(obj, "PredictorRouteReady"):
        return waiting("Knative has no ingress for it yet", knative)
    if not is_true(obj, "IngressReady"):
        return waiting("KServe has no ingress for it yet", condition(obj, "IngressReady"))
    return None


def failed(what: str, said: object) -> tuple[str, str]:
    """Return what callers are told of a failure, and all the words: `what`, with the reason and message of `said`."""
    reason = text(said, "reason")
    told = f"{what}: {reason}" if WORD.fullmatch(reason) else what
    return told, waiting(what, said)[1]


def waiting(what: str, said: object) -> tuple[str, str]:
    """Return what callers are told of what goes on, which is `what`, and all the words."""
    return what, f"{what}{_because(said)}"


def _because(said: object) -> str:
    words = [line for line in (_line(said, "reason"), _line(said, "message")) if line]
    return "".join(f": {line}" for line in words)


def _line(said: object, field: str) -> str:
    """Return others' words in one line, cut: a message may be the last lines of a container's log."""
    return " ".join(plain(text(said, field)[: 2 * MAX_WORDS]).split())[:MAX_WORDS]
