"""The nginx of the model server's tests and benchmark: the project's templates, without the project."""

from __future__ import annotations

from pathlib import Path

from tests.support.http import free_port, request
from tests.support.upstream import Upstream
from tools.proxy import proxy


def test_the_tools_nginx_leads_to_its_routes(folder: Path, upstream: Upstream):
    port = free_port()
    with proxy(folder, f"127.0.0.1:{port}", {"chat": upstream.port}):
        assert request(("127.0.0.1", port), "/apis/rayservice/chat/x").json["upstream"] == "upstream"
        assert request(("127.0.0.1", port), "/apis/rayservice/other/x").error_type == "rayservice_not_found"
