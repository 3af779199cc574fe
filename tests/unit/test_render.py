"""From decisions to the bytes of every file."""

import hashlib
import re
from dataclasses import replace

import pytest

from rayproxy.model import Decision, Pending, Ref, Refused, Rejection, Route, Suspended, Target
from rayproxy.nginx.render import BASE, NginxConf, render, render_base, revision_conf, routed, unrouted
from rayproxy.nginx.routes import ROUTES, read
from rayproxy.nginx.templates import check_location, load_location
from rayproxy.settings import MAX_DRAINING, NginxSettings
from tests.support.manifests import ref, route

CONF = NginxConf(NginxSettings(), ("127.0.0.1:8080",), "/s/run")
PREFIX = load_location("prefix")
AT = "/apis/rayservice"
ROUTE = route(host="[fd00::1]")
KSERVES = Ref("inferenceservice", "default", "chat")
SERVERLESS = Route(
    KSERVES, "u", "/apis/inferenceservice/chat", (Target("10.0.0.80", 80, "chat-predictor.default.svc.x"),)
)
PENDING, REJECTED = Pending(ref("slow"), "u", "m"), Rejection(ref("bad"), "u", "R", "m")
DECISIONS: list[Decision] = [ROUTE, PENDING, REJECTED]


def test_a_revision_has_one_file_for_each_route_and_those_that_are_always_there():
    files = render(DECISIONS, PREFIX, CONF)
    assert sorted(files) == sorted(["ray-chat.conf", ROUTES, *BASE])
    assert files["ray-chat.conf"].text == (
        "location ^~ /apis/rayservice/chat/ {\n    proxy_pass http://[fd00::1]:8000/;\n}\n"
    )
    assert all(file.digest == hashlib.sha256(file.text.encode()).hexdigest() for file in files.values())


def test_the_same_decisions_in_any_order_are_the_same_bytes():
    decisions = [*DECISIONS, route("b", port=1)]
    assert render(decisions, PREFIX, CONF) == render(decisions[::-1], PREFIX, CONF)


@pytest.mark.fault(58)
def test_what_is_only_said_about_a_rayservice_changes_no_byte():
    first: list[Decision] = [Pending(ref(), "u", "waits for a"), Rejection(ref("bad"), "u", "R", "a")]
    other: list[Decision] = [Pending(ref(), "v", "waits for b"), Rejection(ref("bad"), "v", "S", "b")]
    assert render(first, PREFIX, CONF) == render(other, PREFIX, CONF)


def test_a_name_without_a_route_has_a_state_and_a_route_of_the_name_wins():
    other = Rejection(ref("chat", "other"), "", "NameConflict", "")
    found = unrouted([ROUTE, PENDING, REJECTED, other])
    assert found == {f"{AT}/slow": ("pending", ""), f"{AT}/bad": ("rejected", "")}
    assert unrouted([other, ROUTE]) == unrouted([ROUTE, other]) == {}
    for winner, state in (
        (Pending(ref("chat"), "", ""), "pending"),
        (Suspended(ref("chat"), "", ""), "suspended"),
        (Refused(ref("chat"), "", "NameTooLong", ""), "refused"),
    ):
        told = {f"{AT}/chat": (state, "NameTooLong" if state == "refused" else "")}
        assert unrouted([winner, other]) == unrouted([other, winner]) == told


def test_every_name_that_kubernetes_takes_is_told_as_rejected():
    names = ["9chat", "chat.v2", "1.2", "a" * 63, "a" * 253, ".".join(["a" * 63] * 3) + ".b"]
    told = unrouted(Rejection(ref(name), "", "InvalidName", "") for name in names)
    assert told == dict.fromkeys((f"{AT}/{name}" for name in names), ("rejected", ""))


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


def test_nginx_has_room_to_count_the_calls_of_each_model_in_each_worker_that_serves_or_drains():
    settings = NginxSettings(workers=3, worker_connections=8192, max_draining=5)
    text = render([], PREFIX, replace(CONF, settings=settings))["nginx.conf"].text
    assert " limit_conn calls 3584;" in text
    assert " limit_conn route_calls 2688;" in text
    (size,) = map(int, re.findall(r" zone=route_calls:(\d+)k;", text))
    assert size * 1024 > (2 * 3 + 5) * 3584 * 128 * 1.5  # 128 bytes for the longest name, and pages partly used


def test_nginx_has_room_to_count_the_calls_of_all_the_workers_that_it_may_have():
    (size,) = map(int, re.findall(r" zone=calls:(\d+)k;", render([], PREFIX, CONF)["nginx.conf"].text))
    assert size * 1024 > (2 * 256 + MAX_DRAINING) * 128 * 1.5


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
    text = routed(ROUTE, PREFIX).file.text
    assert re.fullmatch(r"location \^~ /apis/rayservice/chat/ \{\n    proxy_pass [^ ]+/;\n\}\n", text)


@pytest.mark.fault(102)
def test_an_operators_template_that_knows_one_backend_gets_the_heavier_one():
    mine = check_location("mine", "location /x/ { proxy_pass http://{{ ClusterIP }}:{{ Port }}; }")
    shared = replace(ROUTE, targets=(Target("10.0.0.2", 8000, weight=70), Target("10.0.0.1", 8000, weight=30)))
    assert routed(shared, mine).file.text.startswith("location /x/ { proxy_pass http://10.0.0.2:8000; }\n")


def test_both_backends_of_a_shared_route_are_trusted():
    shared = replace(ROUTE, targets=(Target("10.0.0.2", 8000, weight=70), Target("10.0.0.1", 80, weight=30)))
    assert trusted(("chat",), shared) == [
        "/apis/rayservice/chat@10.0.0.1",
        "/apis/rayservice/chat@10.0.0.2:8000",
    ]


def test_a_live_route_is_read_back_with_its_shares():
    shared = replace(ROUTE, uid="", targets=(Target("10.0.0.2", 8000, weight=70), Target("10.0.0.1", 80, weight=30)))
    files = render([shared, route("whole")], PREFIX, CONF)
    assert read(files[ROUTES].text)["ray-chat.conf"] == shared
    assert '"weight": 100' not in files[ROUTES].text


def trusted(pages: tuple[str, ...], *decisions) -> list[str]:
    """Return what the pages of which models are trusted by."""
    text = render(decisions, PREFIX, replace(CONF, settings=NginxSettings(trusted_pages=pages)))["trusted.conf"].text
    return re.findall(r'"(\S+)" yes;', text)


@pytest.mark.parametrize("pages", [("chat",), ("default/chat",), ("default/*",), ("*",), ("other", "chat")])
def test_a_page_is_trusted_by_the_name_the_namespace_or_both_of_its_model(pages):
    assert trusted(pages, ROUTE) == ["/apis/rayservice/chat@[fd00::1]:8000"]


@pytest.mark.parametrize("pages", [(), ("other",), ("default",), ("other/chat",), ("default/other",), ("chat/*",)])
def test_a_page_is_not_trusted_by_another_name_nor_by_a_namespace_that_is_called_like_its_model(pages):
    assert trusted(pages, ROUTE) == []


def test_what_has_no_route_is_not_trusted_even_if_another_of_its_name_has_one():
    assert (
        trusted(("evil/chat", "slow", "bad"), ROUTE, PENDING, REJECTED, Rejection(ref("chat", "evil"), "", "", ""))
        == []
    )


def test_a_backend_at_port_80_is_trusted_by_its_address_alone_as_nginx_calls_it():
    found = trusted(("*",), route(port=80), route("six", "[fd00::1]", 80))
    assert found == ["/apis/rayservice/chat@10.0.0.1", "/apis/rayservice/six@[fd00::1]"]


def test_a_route_that_leads_nobody_knows_where_is_not_trusted():
    conf = replace(CONF, settings=NginxSettings(trusted_pages=("*",)))
    kept = replace(ROUTE, targets=())
    assert render_base([], [kept], conf)["trusted.conf"] == render_base([], [], conf)["trusted.conf"]


@pytest.mark.parametrize(
    ("pages", "changed"), [(("*",), {"trusted.conf", "nginx.conf"}), (("chat",), {"trusted.conf", "ray-chat.conf"})]
)
def test_trust_in_a_model_changes_its_own_file_alone_and_trust_in_all_of_them_the_one_for_all(pages, changed):
    other = route("b", port=1)
    with_trust = render([ROUTE, other], PREFIX, replace(CONF, settings=NginxSettings(trusted_pages=pages)))
    without = render([ROUTE, other], PREFIX, CONF)
    assert {name for name in with_trust if with_trust[name] != without[name]} == changed


@pytest.mark.parametrize("template", ["prefix", "regex"])
def test_a_trusted_model_has_the_list_of_fields_without_those_that_concern_the_origin(template):
    settings = NginxSettings(trusted_pages=("chat",))
    files = render([ROUTE, route("b")], load_location(template), replace(CONF, settings=settings))
    assert [name for name in ("b", "chat") if "hidden-fields.conf" in files[f"ray-{name}.conf"].text] == ["chat"]
    assert "include origin-fields.conf;" in files["nginx.conf"].text


@pytest.mark.fault(79)
def test_one_name_in_two_kinds_has_two_files_and_what_is_given_to_a_name_is_given_to_the_rayservice_alone():
    conf = replace(CONF, settings=NginxSettings(trusted_pages=("chat",), stream_bodies=("chat",)))
    files = render([ROUTE, SERVERLESS], PREFIX, conf)
    assert [name for name in files if "chat" in name] == ["ray-chat.conf", "isvc-chat.conf"]
    assert [name for name in files if "proxy_request_buffering off" in files[name].text] == ["ray-chat.conf"]
    assert trusted(("chat",), ROUTE, SERVERLESS) == ["/apis/rayservice/chat@[fd00::1]:8000"]
    assert len(trusted(("default/chat",), ROUTE, SERVERLESS)) == 2


@pytest.mark.fault(79)
def test_a_name_that_waits_in_one_kind_is_told_so_in_that_kind_alone():
    assert unrouted([ROUTE, Pending(KSERVES, "", "")]) == {"/apis/inferenceservice/chat": ("pending", "")}


def test_what_callers_are_told_of_why_is_plain_words_or_nothing():
    at = "/apis/inferenceservice/chat"
    assert unrouted([Pending(KSERVES, "", "it waits: long", "it waits")]) == {at: ("pending", "it waits")}
    assert unrouted([Refused(KSERVES, "", "NoSupportingRuntime", "no")]) == {at: ("refused", "NoSupportingRuntime")}
    for hostile in ("it's", '"', "$host", "a;}", "a\nb", "x" * 201, "\\", "{}"):
        assert unrouted([Pending(KSERVES, "", "", hostile)]) == {at: ("pending", "")}
        assert unrouted([Refused(KSERVES, "", hostile, "")]) == {at: ("refused", "")}


def test_a_page_behind_a_gateway_is_trusted_by_the_models_name_there_and_not_by_the_gateways_address():
    """The gateway answers for every model behind it."""
    assert trusted(("*",), SERVERLESS) == ["/apis/inferenceservice/chat@chat-predictor.default.svc.x"]


HOST = "{% if Host %}set $gateway_host {{ Host }};{% endif %}"


@pytest.mark.parametrize(
    ("text", "of_one_in_standard", "serverless"),
    [("location /a/{{ Name }} {}", True, True), ("location /a/{{ Kind }}/{{ Name }} {}", False, True),
     (f"location /a/{{{{ Kind }}}}/{{{{ Name }}}} {{ {HOST} }}", False, False)],
)  # fmt: skip
def test_a_template_that_would_send_another_kind_astray_is_not_used_for_it(
    text: str, of_one_in_standard: bool, serverless: bool
):
    mine = check_location("mine", text)
    assert routed(ROUTE, mine).file.text.startswith("location /a/")
    for route_, falls_back in (
        (replace(SERVERLESS, targets=(Target("10.0.0.1", 80),)), of_one_in_standard),
        (SERVERLESS, serverless),
    ):
        made = routed(route_, mine).file.text
        assert made.startswith("location ^~ /apis/inferenceservice/chat/" if falls_back else "location /a/")
