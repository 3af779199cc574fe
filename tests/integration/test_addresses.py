"""Clusters of IPv4, of IPv6 and of both, as network namespaces: the image's settings serve in each."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.deploy import ROOT
from tests.support.http import request
from tests.support.manifests import Manifests, rayservice, service
from tests.support.netns import CLUSTER_IP, IPV6_ONLY, POD, WITHOUT_IPV6, needs_namespaces, network
from tests.support.raw import OK, RawUpstream
from tests.support.upstream import Upstream
from tests.support.waiting import until

IPV6_SWITCHED_OFF = tuple(f"sysctl -w net.ipv6.conf.{which}.disable_ipv6=1" for which in ("all", "default", "lo"))
PROBES = [("/-/healthz", 8080), ("/healthz", 9090), ("/readyz", 9090)]
NO_IPV6 = "this kernel has no IPv6: every address means every IPv4 address"
pytestmark = [needs_namespaces, pytest.mark.slow]

Make = Callable[..., Daemon]


def image_settings() -> dict[str, str]:
    """Return the image's own addresses, as Dockerfile.proxy sets them."""
    text = (ROOT / "Dockerfile.proxy").read_text()
    found = dict(re.findall(r"RAYPROXY_((?:ADMIN_)?LISTEN)=(\S+)", text))
    assert found == {"LISTEN": "8080", "ADMIN_LISTEN": "9090"}
    return found


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Return a function to a daemon with the image's addresses, which routes `chat` to a ClusterIP."""
    daemons: list[Daemon] = []

    def made(cluster_ip: str, upstream: Upstream | RawUpstream, **settings: str) -> Daemon:
        manifests = Manifests(folder / "m")
        ray = rayservice("chat")
        ports = [{"name": "serve", "port": upstream.port}]
        manifests.write("chat", ray, service(ray, clusterIP=cluster_ip, ports=ports))
        chosen = {"SOURCE": "manifests", "MANIFESTS": str(manifests.folder), "WORKERS": "1", **image_settings()}
        daemons.append(Daemon(folder, chosen | settings, 8080, 9090))
        return daemons[-1]

    yield made
    for daemon in daemons:
        daemon.clean_up()


@contextmanager
def upstream_at(host: str) -> Iterator[Upstream]:
    upstream = Upstream(host=host)
    try:
        yield upstream
    finally:
        upstream.close()


@contextmanager
def nginx_container(daemon: Daemon) -> Iterator[None]:
    """Run what the init container and the nginx container run, but for the wait and the signals of start-nginx."""
    subprocess.run(
        [sys.executable, "-m", "rayproxy", "init"], env=daemon.environment, check=True, stdout=subprocess.DEVNULL
    )
    command = ["nginx", "-c", str(daemon.state / "current/nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def statuses(host: str) -> list[int]:
    """Return what kubelet's probes get at an address of the pod."""
    return [request((host, port), path).status for path, port in PROBES]


@pytest.mark.parametrize("template", ["prefix", "regex"])
def test_a_pod_with_ipv6_alone_is_ready_and_routes_to_a_clusterip_of_ipv6(make: Make, template: str):
    with network(*IPV6_ONLY), upstream_at(CLUSTER_IP) as upstream:
        daemon = make(CLUSTER_IP, upstream, NGINX="external", TEMPLATE=template)
        daemon.host = POD
        with nginx_container(daemon):
            daemon.start()
            assert statuses(POD) == [200, 200, 200]
            seen = daemon.route("chat", "a?b=c").json
        assert seen["line"] == "GET /a?b=c HTTP/1.1"
        assert seen["headers"]["x-real-ip"] == POD
        with pytest.raises(OSError, match=r"unreachable|Cannot assign"):
            request(("127.0.0.1", 8080), "/-/healthz")


@pytest.mark.parametrize("port", [0, 80], ids=["any port", "port 80, which nginx leaves out of $proxy_host"])
def test_redirects_and_trusted_pages_are_right_by_addresses_of_ipv6(make: Make, port: int):
    with network(*IPV6_ONLY):
        upstream = RawUpstream(host=CLUSTER_IP, port=port)
        daemon = make(CLUSTER_IP, upstream, TRUSTED_PAGES="chat")
        daemon.host = POD
        daemon.start()
        own = f"[{CLUSTER_IP}]" if port else f"[{CLUSTER_IP}]:{upstream.port}"
        for host in (f"[{POD}]:8080", own):  # by which the model may call itself
            said = f"HTTP/1.1 307 X\r\nLocation: http://{host}/items/\r\nContent-Type: text/html\r\n"
            upstream.answer = f"{said}Content-Length: 0\r\n\r\n".encode()
            caller = HTTPConnection(POD, 8080, timeout=10)
            caller.request("GET", "/apis/rayservice/chat/items")
            answer = caller.getresponse()
            assert answer.headers["Location"] == "/apis/rayservice/chat/items/"
            assert "Content-Security-Policy" not in answer.headers
            caller.close()
        upstream.close()


@pytest.mark.parametrize("template", ["prefix", "documented"])
def test_the_pages_of_a_model_at_port_80_are_trusted(make: Make, template: str):
    with network():
        upstream = RawUpstream(port=80)
        upstream.answer = OK.replace(b"application/json", b"text/html")
        daemon = make("127.0.0.1", upstream, TRUSTED_PAGES="chat", TEMPLATE=template).start()
        assert "content-security-policy" not in daemon.route("chat").headers
        upstream.close()


def test_a_pod_with_both_answers_both_and_calls_an_ipv4_caller_by_its_ipv4_address(make: Make):
    with network(), upstream_at("127.0.0.1") as upstream:
        make("127.0.0.1", upstream).start()
        for host in ("127.0.0.1", "::1"):
            assert statuses(host) == [200, 200, 200]
            headers = request((host, 8080), "/apis/rayservice/chat/").json["headers"]
            assert (headers["x-real-ip"], headers["x-forwarded-for"]) == (host, host)


def test_ipv6_switched_off_is_no_error(make: Make):
    with network(*IPV6_SWITCHED_OFF), upstream_at("127.0.0.1") as upstream:
        daemon = make("127.0.0.1", upstream).start()
        assert statuses("127.0.0.1") == [200, 200, 200]
        assert daemon.route("chat").status == 200


@pytest.mark.parametrize("listen", ["8080", "[::]:8080"])
def test_a_kernel_without_ipv6_is_noticed_and_no_error(make: Make, listen: str):
    with network(), upstream_at("127.0.0.1") as upstream:
        daemon = make("127.0.0.1", upstream, LISTEN=listen, ADMIN_LISTEN=listen.replace("8080", "9090"))
        daemon.before = WITHOUT_IPV6
        daemon.start()
        assert statuses("127.0.0.1") == [200, 200, 200]
        assert daemon.route("chat").status == 200
        assert re.findall(r"listen (.*8080.*);", daemon.files()["nginx.conf"]) == ["0.0.0.0:8080"]
        assert NO_IPV6 in daemon.told()


def test_an_address_of_ipv6_that_a_kernel_without_it_cannot_have_is_named(make: Make):
    with network(), upstream_at("127.0.0.1") as upstream:
        daemon = make("127.0.0.1", upstream, ADMIN_LISTEN="[::1]:9090")
        daemon.before = WITHOUT_IPV6
        daemon.start(ready=False)
        assert daemon.process
        assert daemon.process.wait(20) == 1
        assert "cannot listen on [::1]:9090: Address family not supported by protocol; choose" in daemon.told()


def test_a_running_nginx_goes_from_the_addresses_of_ipv4_to_those_of_both_by_a_reload(make: Make):
    with network(), upstream_at("127.0.0.1") as upstream:
        daemon = make("127.0.0.1", upstream, LISTEN="0.0.0.0:8080").start()
        master = daemon.nginx_pid()
        for listen, others in (("8080", 200), ("0.0.0.0:8080", 0)):
            daemon.stop(signal.SIGKILL)  # nginx lives on
            daemon.environment["RAYPROXY_LISTEN"] = listen
            daemon.start()
            assert daemon.nginx_pid() == master
            until(f"nginx listens on {listen}", lambda wanted=others: health("::1") == wanted)
            assert health("127.0.0.1") == 200
            until("the reload is proven", lambda: daemon.reloads == 1)


def health(host: str) -> int:
    try:
        return request((host, 8080), "/-/healthz").status
    except OSError:
        return 0


def test_check_says_which_addresses_a_port_means(make: Make):
    with network(), upstream_at("127.0.0.1") as upstream:
        daemon = make("127.0.0.1", upstream)
        command = [sys.executable, "-m", "rayproxy", "check"]
        said = [
            subprocess.run([*before, *command], cwd=ROOT, env=daemon.environment, capture_output=True, check=True)
            for before in ((), WITHOUT_IPV6)
        ]
        lines = [done.stdout.decode().splitlines()[0] for done in said]
        assert lines == [
            "ok    settings: nginx listens on 0.0.0.0:8080 and [::]:8080",
            "ok    settings: nginx listens on 0.0.0.0:8080",
        ]
