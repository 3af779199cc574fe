"""A redirect of a model that lives under a prefix leads its caller below that prefix, once."""

from __future__ import annotations

import pytest

from tests.support.raw import exchange, nginx_version

pytestmark = pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)
OWN = "/apis/rayservice/chat"
LED = {  # what a model says -> what its caller reads; the caller's Host is proxy.test
    "/items/": f"{OWN}/items/",
    "/": f"{OWN}/",
    "/login?next=/a&b=c#d": f"{OWN}/login?next=/a&b=c#d",
    "/\u00e4 b": f"{OWN}/\u00e4 b",
    "http://proxy.test/items/": f"{OWN}/items/",
    "HTTP://Proxy.Test/items/": f"{OWN}/items/",
    "http://proxy.test:80/items/": f"{OWN}/items/",
    "https://proxy.test:443/items/": f"https://proxy.test:443{OWN}/items/",
    "http://proxy.test": OWN,
    "http://proxy.test?a=b": f"{OWN}?a=b",
    "https://proxy.test/items/": f"https://proxy.test{OWN}/items/",
    "https://proxy.test": f"https://proxy.test{OWN}",
    "http://proxy.test//evil.example/": f"{OWN}//evil.example/",
}
LEFT = [
    OWN, f"{OWN}/", f"{OWN}/items/", f"{OWN}?a=b", f"http://proxy.test{OWN}/items/", f"https://proxy.test{OWN}/items/",
    f"http://proxy.test:80{OWN}/items/", f"https://proxy.test:443{OWN}/items/", f"HTTPS://Proxy.Test:443{OWN}",
    f"/team{OWN}/items/", f"https://proxy.test/team{OWN}/items/", f"http://proxy.test:80/team{OWN}/items/",
    f"http://proxy.test:443{OWN}/items/", f"https://proxy.test:80{OWN}/items/",
    "http://other.example/items/", "https://other.example", "//other.example/items/", "http://proxy.test.evil.example/",
    "http://proxy.test:8081/items/", "http://me@proxy.test/items/", "http://evil.example/http://proxy.test/",
    "items/", "../items/", "?page=2", "#top", "", "mailto:a@proxy.test", "ftp://proxy.test/items/",
]  # fmt: skip


def answer(status: int = 307, **fields: str) -> bytes:
    """Return an answer with fields; an underscore in a name is a hyphen."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"HTTP/1.1 {status} X", *lines, "Content-Length: 0", "", ""]).encode("latin-1")


@pytest.mark.parametrize(("said", "read"), [*LED.items(), *((same, same) for same in LEFT)])
@pytest.mark.parametrize("field", ["Location", "Content-Location"])
def test_an_address_on_the_callers_own_host_gets_the_prefix_and_others_stay(door, field, said, read):
    status = 307 if field == "Location" else 200
    found = door.ask("items", answer=answer(status, **{field: said}))
    assert (found.status, found.headers.get(field.lower(), "")) == (status, read)


REFRESHES = {
    "0; url=/items/": f"0; url={OWN}/items/",
    "5;URL=http://proxy.test/x": f"5;URL={OWN}/x",
    f"0; url={OWN}/x": f"0; url={OWN}/x",
    "0; url=http://other.example/": "0; url=http://other.example/",
    "5": "5",
}


@pytest.mark.parametrize(("said", "read"), REFRESHES.items())
def test_a_refresh_is_led_as_a_redirect_is(door, said, read):
    assert door.ask(answer=answer(200, Refresh=said)).headers["refresh"] == read


def test_three_addresses_in_one_answer_are_led_each_for_itself(door):
    sent = answer(201, Refresh="0; url=/a", Location="/b", Content_Location="http://other.example/c")
    found = door.ask(answer=sent).headers
    assert (found["refresh"], found["location"], found["content-location"]) == (
        f"0; url={OWN}/a", f"{OWN}/b", "http://other.example/c",
    )  # fmt: skip


def test_a_model_that_calls_itself_by_its_service_is_led_as_well(door):
    """Both templates: what nginx does by itself is off wherever proxy_redirect is set."""
    own = f"http://127.0.0.1:{door.upstream.port}"
    assert door.ask(answer=answer(Location=f"{own}/items/")).headers["location"] == f"{OWN}/items/"


def test_a_model_that_calls_itself_by_the_front_ends_host_is_led_as_well(door):
    heard = {"X-Forwarded-Host": "shop.example, inner.example"}
    for said, read in (
        ("http://shop.example/a", f"{OWN}/a"),
        ("https://shop.example/a", f"https://shop.example{OWN}/a"),
        ("https://inner.example/a", "https://inner.example/a"),
    ):
        assert door.ask(answer=answer(Location=said), headers=heard).headers["location"] == read


PORTS = {  # (the caller's Host, what a model says) -> what its caller reads; of another port is another server
    ("proxy.test:80", "http://proxy.test/items/"): f"{OWN}/items/",
    ("proxy.test:80", "http://proxy.test:80/items/"): f"{OWN}/items/",
    ("proxy.test:80", f"http://proxy.test{OWN}/items/"): f"http://proxy.test{OWN}/items/",
    ("proxy.test:80", "https://proxy.test/items/"): "https://proxy.test/items/",
    ("proxy.test:443", "https://proxy.test/items/"): f"https://proxy.test{OWN}/items/",
    ("proxy.test:443", "https://proxy.test:443/items/"): f"https://proxy.test:443{OWN}/items/",
    ("proxy.test:443", f"https://proxy.test{OWN}/items/"): f"https://proxy.test{OWN}/items/",
    ("proxy.test:443", "https://proxy.test"): f"https://proxy.test{OWN}",
    ("proxy.test:443", "http://proxy.test/items/"): "http://proxy.test/items/",
    ("proxy.test:8443", "https://proxy.test/items/"): "https://proxy.test/items/",
    ("proxy.test:4430", "https://proxy.test/items/"): "https://proxy.test/items/",
    ("proxy.test:8080", "http://proxy.test:80/items/"): "http://proxy.test:80/items/",
}


@pytest.mark.parametrize(("host", "said", "read"), [(*asked, read) for asked, read in PORTS.items()])
@pytest.mark.parametrize("field", ["Host", "X-Forwarded-Host"])
def test_a_port_that_the_caller_named_and_the_model_leaves_out_is_its_schemes_own(door, field, host, said, read):
    """Clients and front ends name it now and then; a framework that knows the scheme leaves it out."""
    door.upstream.answer = answer(Location=said)
    hosts = {"Host": "other.test"} | {field: host}
    fields = "".join(f"{name}: {value}\r\n" for name, value in hosts.items())
    told = exchange(door.daemon.port, f"GET {OWN}/ HTTP/1.1\r\n{fields}Connection: close\r\n\r\n".encode())
    assert f"Location: {read}\r\n" in told.decode()


def test_a_post_that_is_redirected_keeps_its_body_and_ends_at_the_model(door):
    led = door.ask("items", answer=answer(Location="http://proxy.test/items/"), method="POST", body=b"{}")
    assert led.status == 307
    door.daemon.get(led.headers["location"], method="POST", body=b"{}")
    assert door.upstream.line == "POST /items/ HTTP/1.1"


def test_a_redirect_says_nothing_of_the_prefix_where_no_route_was_asked(door):
    found = door.daemon.get("/apis/rayservice/chat?x=y", headers={"X-Forwarded-Host": "evil.example"})
    assert (found.status, found.headers["location"]) == (308, "chat/?x=y")


@pytest.mark.parametrize("field", ["Location", "Refresh", "ETag"])
def test_of_a_field_that_is_given_twice_nginx_since_1_23_passes_the_first_one(door, field):
    sent = f"HTTP/1.1 200 X\r\n{field}: a\r\n{field}: b\r\nContent-Length: 0\r\n\r\n"
    found = [value for name, value in door.ask(answer=sent.encode()).fields if name == field]
    assert found == (["a", "b"] if nginx_version() < (1, 23, 0) else ["a"])
