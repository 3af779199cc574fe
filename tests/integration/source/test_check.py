"""What `rayproxy check` says of a cluster's kinds."""

from __future__ import annotations

import pytest

from rayproxy.cli.cluster_checks import permissions
from rayproxy.settings import Settings
from tests.support.reflecting import anonymous
from tests.support.scripted import Reply, ScriptedApi, Seen, raw

REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
ALLOWED = raw(b'{"status": {"allowed": true}}')
ABSENT = raw(b"404 page not found\n", 404)  # which a real API server says of /apis/v1 too: the core is at /api/v1


@pytest.fixture
def found(api: ScriptedApi, request: pytest.FixtureRequest) -> dict[str, str | None]:
    """Return what is found where every permission is there, and no CRD; the parameter is the kinds."""

    def always(seen: Seen) -> Reply | None:
        if seen.path == REVIEW:
            return ALLOWED
        return ABSENT if seen.path.startswith("/apis/") else None

    api.always = always
    settings = Settings(kinds=request.param, names_configmap="", _cli_parse_args=False)
    return dict(permissions(anonymous(api.url), settings))


@pytest.mark.parametrize("found", [("service",)], indirect=True)
def test_check_looks_for_no_crd_of_a_plain_service(found: dict[str, str | None]):
    assert found["0 Services match 'app=prediction'"] is None
    assert [line for line in found if "CRD" in line] == []
    assert set(found.values()) == {None}


@pytest.mark.parametrize("found", [("rayservice", "service")], indirect=True)
def test_check_says_which_crd_is_not_there_beside_a_plain_service(found: dict[str, str | None]):
    said = "the RayService CRD is not installed: none of its objects is routed"
    assert [line for line in found if "CRD" in line] == [said]
    assert set(found.values()) == {None}
