"""KubeRay's words about a RayService: one line, with what is wrong and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.kinds.kuberay import MAX_WORDS, words
from rayproxy.kinds.rayservice import read_rayservice
from tests.support.manifests import rayservice

# A deployment whose settings are wrong, as KubeRay 1.6 passes on what Ray Serve 2.60 says of it.
REFUSED = (
    'The deployment failed to start 3 times in a row.\nTraceback (most recent call last):\n  File "x"\n'
    "pydantic_core.ValidationError: 1 validation error for Settings\nengine\n  Input should be 'auto' or 'echo'\n"
    "    For further information visit https://errors.pydantic.dev/2.12/v/literal_error\n"
)
TRACEBACK = "Deploying app failed:\nTraceback (most recent call last):\n  File \"x\"\nAttributeError: no 'nope'\n"


def ready(
    status: str, reason: str = "ZeroServeEndpoints", message: str = "dropped to 0", **more: str
) -> dict[str, Any]:
    return {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message, **more}]}


def applications(cluster: str = "activeServiceStatus", **found: object) -> dict[str, Any]:
    return {cluster: {"applicationStatuses": found}}


def said(status: object) -> str:
    return words({"status": status})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, ""),
        (None, ""),
        (ready("True", "NonZeroServeEndpoints", "fine"), ""),
        (ready("False"), "not ready: ZeroServeEndpoints: dropped to 0"),
        (ready("False", lastTransitionTime="2026-01-01T00:00:00Z"),
         "not ready since 2026-01-01T00:00:00Z: ZeroServeEndpoints: dropped to 0"),
        (ready("False", lastTransitionTime="a\nlie"), "not ready: ZeroServeEndpoints: dropped to 0"),
        (ready("False", "", ""), "not ready"),
        (applications(default={"status": "RUNNING"}), ""),
        (applications(default={"status": "RUNNING", "serveDeploymentStatuses": {"a": {"status": "HEALTHY"}}}), ""),
        (applications(default={"status": "DEPLOY_FAILED", "message": TRACEBACK}),
         "its application default is DEPLOY_FAILED: AttributeError: no 'nope'"),
        (applications(default={"status": "DEPLOYING", "serveDeploymentStatuses": {"a": {}, "b": {"message": "full"}}}),
         "its application default is DEPLOYING: full"),
        (applications(default={"status": "DEPLOY_FAILED", "message": "Failed to update the deployments ['a'].",
                               "serveDeploymentStatuses": {"a": {"status": "DEPLOY_FAILED", "message": REFUSED}}}),
         "its application default is DEPLOY_FAILED: Input should be 'auto' or 'echo'"),
        (applications(a={"status": "UNHEALTHY"}, b={"status": "RUNNING"}), "its application a is UNHEALTHY"),
        (applications("pendingServiceStatus", new={"status": "DEPLOYING"}), "its application new is DEPLOYING"),
        ({**ready("False", "x", "y"), **applications(a={"status": "UNHEALTHY"})},
         "not ready: x: y; its application a is UNHEALTHY"),
        (applications(default=7), "its application default is in no state"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(status: object, expected: str):
    assert said(status) == expected


NAMES = ["activeServiceStatus", "applicationStatuses", "conditions", "type", "message", "status", "a"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["activeServiceStatus", "applicationStatuses", "conditions", "type", "message", "status", "a"]
            ),
            each,
        )
    ),
)


@given(ANYTHING)
def test_whatever_stands_in_a_status_it_is_one_line_of_bounded_length(status: object):
    found = said(status)
    assert len(found) <= MAX_WORDS
    assert found.isprintable()


def test_words_of_a_megabyte_are_cut():
    found = {f"a{number}": {"message": "x" * 10**6} for number in range(9)}
    assert len(said({"activeServiceStatus": {"applicationStatuses": found}})) == MAX_WORDS


def test_an_application_that_comes_and_goes_makes_no_other_rayservice_of_one_that_is_ready():
    failing = applications(default={"status": "UNHEALTHY", "message": "no replica"})
    before, after = (read_rayservice(rayservice(status=ready("True") | more)) for more in ({}, failing))
    assert before == after
    assert after.words == "its application default is UNHEALTHY: no replica"
    assert read_rayservice(rayservice(status=ready("False") | failing)).failing == after.words


def test_words_make_no_other_rayservice_of_it():
    plain, wordy = (read_rayservice(rayservice(status=status)) for status in ({}, ready("False")))
    assert plain == wordy
    assert (plain.words, wordy.words) == ("", "not ready: ZeroServeEndpoints: dropped to 0")
