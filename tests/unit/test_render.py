"""From decisions to the bytes of every file."""

import hashlib
import re
from dataclasses import replace

import pytest

from rayproxy.model import Pending, Refused, Rejection, Suspended
from rayproxy.nginx.render import BASE, NginxConf, render, revision_conf, routed, unrouted
from rayproxy.nginx.routes import ROUTES
from rayproxy.nginx.templates import check_location, load_location
from rayproxy.settings import NginxSettings
from tests.support.manifests import ref, route

CONF = NginxConf(NginxSettings(), ("127.0.0.1:8080",), "/s/run")
PREFIX = load_location("prefix")
ROUTE = route(host="[fd00::1]")
PENDING, REJECTED = Pending(ref("slow"), "u", "m"), Rejection(ref("bad"), "u", "R", "m")


def test_a_revision_has_one_file_for_each_route_and_those_that_are_always_there():
    files = render([ROUTE, PENDING, REJECTED], PREFIX, CONF)
    assert sorted(files) == sorted(["ray-chat.conf", ROUTES, *BASE])
    assert files["ray-chat.conf"].text == (
        "location ^~ /apis/rayservice/chat/ {\n    proxy_pass http://[fd00::1]:8000/;\n}\n"
    )
    assert all(file.digest == hashlib.sha256(file.text.encode()).hexdigest() for file in files.values())


def test_the_same_decisions_in_any_order_are_the_same_bytes():
    decisions = [ROUTE, PENDING, REJECTED, route("b", port=1)]
    assert render(decisions, PREFIX, CONF) == render(decisions[::-1], PREFIX, CONF)


@pytest.mark.fault(58)
def test_what_is_only_said_about_a_rayservice_changes_no_byte():
    first = [Pending(ref(), "u", "waits for a"), Rejection(ref("bad"), "u", "R", "a")]
    other = [Pending(ref(), "v", "waits for b"), Rejection(ref("bad"), "v", "S", "b")]
    assert render(first, PREFIX, CONF) == render(other, PREFIX, CONF)


def test_a_name_without_a_route_has_a_state_and_a_route_of_the_name_wins():
    other = Rejection(ref("chat", "other"), "", "NameConflict", "")
    assert unrouted([ROUTE, PENDING, REJECTED, other]) == {"slow": "pending", "bad": "rejected"}
    assert unrouted([other, ROUTE]) == unrouted([ROUTE, other]) == {}
    for winner, state in (
        (Pending(ref("chat"), "", ""), "pending"),
        (Suspended(ref("chat"), "", ""), "suspended"),
        (Refused(ref("chat"), "", "NameTooLong", ""), "refused"),
    ):
        assert unrouted([winner, other]) == unrouted([other, winner]) == {"chat": state}


def test_every_name_that_kubernetes_takes_is_told_as_rejected():
    names = ["9chat", "chat.v2", "1.2", "a" * 63, "a" * 253, ".".join(["a" * 63] * 3) + ".b"]
    assert unrouted(Rejection(ref(name), "", "InvalidName", "") for name in names) == dict.fromkeys(names, "rejected")


@pytest.mark.fault(28)
def test_a_rejected_name_that_is_no_name_reaches_no_file():
    hostile = [Rejection(ref(name), "", "InvalidName", "") for name in (
        "a;b", "a b", "A", "../a", "$host", "a\n", "..", ".a", "a..b", "a.", "~a", "a" * 254,
    )]  # fmt: skip
    assert unrouted(hostile) == {}
    assert render(hostile, PREFIX, CONF) == render([], PREFIX, CONF)


def test_the_settings_reach_nginx_conf():
    text = render([], PREFIX, CONF)["nginx.conf"].text
    for line in ("worker_processes 2;", "worker_shutdown_timeout 2100s;", "pid /s/run/nginx.pid;", "access_log off;",
                 "listen 127.0.0.1:8080;", "proxy_read_timeout 2000s;", "client_max_body_size 16m;"):  # fmt: skip
        assert line in text
    assert "user " not in text


def test_revision_conf_names_the_revision_on_the_folders_own_socket():
    text = revision_conf("0123456789abcdef", "/s/run")
    assert "listen unix:/s/run/revision.sock;" in text
    assert "return 200 0123456789abcdef;" in text


def test_an_operators_template_is_filled_and_brings_the_redirect():
    mine = check_location(
        "mine", "location /x/{{ Namespace }}-{{ .Name }}/ { proxy_pass http://{{ .ClusterIP }}:{{ .Port }}; }"
    )
    assert routed(ROUTE, mine).file.text == (
        "location /x/default-chat/ { proxy_pass http://[fd00::1]:8000; }\n"
        "location = /apis/rayservice/chat {\n    return 308 chat/$is_args$args;\n}\n"
    )


@pytest.mark.parametrize(
    ("names", "streamed"),
    [((), []), (("chat",), ["chat"]), (("default/b",), ["b"]), (("default/*",), ["b", "chat"]), (("x/*", "x/b"), [])],
)
def test_a_route_whose_bodies_are_streamed_says_so_and_no_other_does(names, streamed):
    other = route("b", port=1)
    files = render([ROUTE, other], PREFIX, replace(CONF, settings=NginxSettings(stream_bodies=names)))
    line = "proxy_request_buffering off;"
    assert [name for name in ("b", "chat") if line in files[f"ray-{name}.conf"].text] == streamed
    assert line not in files["nginx.conf"].text


def test_a_star_streams_all_bodies_in_one_place():
    files = render([ROUTE], PREFIX, replace(CONF, settings=NginxSettings(stream_bodies=("*",))))
    assert [name for name, file in files.items() if "proxy_request_buffering off;" in file.text] == ["nginx.conf"]


def test_the_default_template_has_a_literal_prefix_and_no_regex():
    assert re.fullmatch(r"location \^~ /apis/rayservice/\{\{ Name \}\}/ \{\n.*\n\}\n", PREFIX.text)


def trusted(pages: tuple[str, ...], *decisions) -> list[str]:
    """Return what the pages of which models are trusted by."""
    text = render(decisions, PREFIX, replace(CONF, settings=NginxSettings(trusted_pages=pages)))["trusted.conf"].text
    return re.findall(r'"(\S+)" yes;', text)


@pytest.mark.parametrize("pages", [("chat",), ("default/chat",), ("default/*",), ("*",), ("other", "chat")])
def test_a_page_is_trusted_by_the_name_the_namespace_or_both_of_its_model(pages):
    assert trusted(pages, ROUTE) == ["chat@[fd00::1]:8000"]


@pytest.mark.parametrize("pages", [(), ("other",), ("default",), ("other/chat",), ("default/other",), ("chat/*",)])
def test_a_page_is_not_trusted_by_another_name_nor_by_a_namespace_that_is_called_like_its_model(pages):
    assert trusted(pages, ROUTE) == []


def test_what_has_no_route_is_not_trusted_even_if_another_of_its_name_has_one():
    assert (
        trusted(("evil/chat", "slow", "bad"), ROUTE, PENDING, REJECTED, Rejection(ref("chat", "evil"), "", "", ""))
        == []
    )


def test_trust_in_a_model_changes_no_other_file():
    with_trust = render([ROUTE], PREFIX, replace(CONF, settings=NginxSettings(trusted_pages=("*",))))
    without = render([ROUTE], PREFIX, CONF)
    assert {name for name in with_trust if with_trust[name] != without[name]} == {"trusted.conf"}
