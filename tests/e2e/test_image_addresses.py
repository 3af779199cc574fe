"""The image as it is built, in a pod that has addresses of IPv6 alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.http import request
from tests.support.manifests import rayservice, service
from tests.support.netns import CLUSTER_IP, IPV6_ONLY, POD, joined, set_up
from tests.support.pod import Pod
from tests.support.upstream import Upstream
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.apiserver]
MANIFESTS = "/var/lib/rayproxy/manifests"


def write_manifests(pod: Pod, port: int) -> None:
    folder = pod.folder / "state/manifests"
    folder.mkdir()
    ray = rayservice("chat")
    objects = [ray, service(ray, clusterIP=CLUSTER_IP, ports=[{"name": "serve", "port": port}])]
    (folder / "chat.yaml").write_text("".join(f"---\n{json.dumps(obj)}\n" for obj in objects))


def test_the_image_serves_where_there_is_ipv6_alone(make_pod: Callable[..., Pod]):
    pod = make_pod(own_network=True, SOURCE="manifests", MANIFESTS=MANIFESTS)
    pod.host = POD
    pod.start_processes()
    with joined(pod.pid("pause")):
        set_up(*IPV6_ONLY)
        upstream = Upstream(host=CLUSTER_IP)
        write_manifests(pod, upstream.port)
        pod.run("init")
        pod.start_container("nginx")
        pod.start_container("rayproxy")
        until("it is ready", pod.is_ready)
        until("the route answers", lambda: pod.answers("chat"))
        assert pod.get("/-/healthz").status == 200
        assert pod.probe("/healthz") == 200
        assert pod.get("/apis/rayservice/chat/a").json["headers"]["x-real-ip"] == POD
        with pytest.raises(OSError, match=r"unreachable|Cannot assign"):
            request(("127.0.0.1", 8080), "/-/healthz")
        upstream.close()
