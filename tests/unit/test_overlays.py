"""What kubectl makes of deploy/ in an overlay of one's own."""

from __future__ import annotations

from pathlib import Path

from tests.support import gatewayapi


def test_in_a_namespace_of_ones_own_every_permission_is_given_to_the_service_account_there(tmp_path: Path):
    rendered = gatewayapi.rendered(tmp_path, namespace="team-proxy")
    bindings = [each for each in rendered if each["kind"].endswith("RoleBinding")]
    assert len(bindings) == 4
    assert [each["subjects"] for each in bindings] == [
        [{"kind": "ServiceAccount", "name": "rayproxy", "namespace": "team-proxy"}] for _ in bindings
    ]
