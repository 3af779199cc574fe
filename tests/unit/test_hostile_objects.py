"""Objects that hold anything: nothing raises, and nothing but checked values reaches a file."""

import copy
import ipaddress
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayproxy.kinds.backend import Policy
from rayproxy.kinds.rayservice import RAYSERVICES, SERVICES
from rayproxy.model import Resource, Route, Snapshot
from rayproxy.nginx.render import BASE, NginxConf, render
from rayproxy.nginx.routes import ROUTES
from rayproxy.nginx.templates import load_location
from rayproxy.objects import UnreadableError, labels_of
from rayproxy.report.status import statuses, table
from rayproxy.settings import NginxSettings
from tests.support.deciding import decide
from tests.support.examples import times
from tests.support.manifests import rayservice, service

CONF = NginxConf(NginxSettings(), ("127.0.0.1:8080",), "/s/run")
TEMPLATES = {name: load_location(name) for name in ("prefix", "regex")}
NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
STATE_LINE = (
    r"    /apis/rayservice/[a-z0-9]([-.a-z0-9]*[a-z0-9])? (pending|suspended|refused|rejected|' \([A-Za-z0-9 :]+\)');"
)

INJECTIONS = [
    "a; } location /x { alias /etc/; }", "a\n}\nlocation / { return 200; }", "$host", "a$b", '"a', "'", "\\", "#",
    "..", "../../etc/passwd", "a/b", "~", "*", "%0d%0a", "\r\nX: y", "\x00", "\ud800", "{{ Name }}", "{% raw %}",
    "unix:/var/run/docker.sock", "169.254.169.254", "127.0.0.1:80/#", "127.0.0.1;", "None", "default", "include",
    "[::1]", "::1", "0x7f.1", "2130706433", " 10.0.0.1", "10.0.0.1\n", "serve", "ray-x.conf", "", "\u0430", "\u0663",
]  # fmt: skip
LEAVES = st.one_of(
    st.sampled_from(INJECTIONS), st.text(max_size=8), st.none(), st.booleans(), st.floats(), st.integers(),
    st.binary(max_size=3), st.dates(), st.datetimes(timezones=st.none() | st.timezones()),
)  # fmt: skip
KEYS = st.sampled_from(["metadata", "name", "spec", "ports", "items"]) | st.text(max_size=4)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def paths(node: object, here: tuple = ()) -> list[tuple]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [here, *(path for key, child in children for path in paths(child, (*here, key)))]


def replaced(obj: Any, path: tuple, value: object) -> Any:
    if not path:
        return value
    obj = copy.copy(obj)
    obj[path[0]] = replaced(obj[path[0]], path[1:], value)
    return obj


CONDITION = {"type": "Ready", "status": "False", "reason": "ValidationFailed", "message": "m", "observedGeneration": 1}
CHAT = rayservice(spec={"serveService": {"metadata": {"name": "given"}}, "upgradeStrategy": {"type": "None"},
                        "suspend": False},
                  status={"activeServiceStatus": {"rayClusterName": "c"}, "conditions": [CONDITION]})  # fmt: skip
PORTS = [{"name": "serve-http", "port": 8000, "appProtocol": "http", "protocol": "TCP"}]
ORIGINALS = (CHAT, service(CHAT), service(CHAT, "given", ports=PORTS))


@st.composite
def worlds(draw) -> list[object]:
    """Return a RayService and its Services with a few fields replaced by anything, and one that is fine."""
    objects: list[object] = []
    for original in ORIGINALS:
        obj: object = original
        for _ in range(draw(st.integers(0, 3))):
            obj = replaced(obj, draw(st.sampled_from(paths(obj))), draw(JSON))
        objects.append(obj)
    fine = rayservice("fine")
    return [*objects, fine, service(fine), draw(JSON)]


def look(objects: list[object]) -> Snapshot:
    found: dict[Resource[Any], list[Any]] = {RAYSERVICES: [], SERVICES: []}
    for obj in objects:
        labels_of(obj)
        for resource, into in found.items():
            try:
                into.append(resource.read(obj))
            except UnreadableError:
                continue
    return Snapshot({resource: tuple(read) for resource, read in found.items()})


def expected(route: Route, template: str) -> str:
    """Fill a template by hand, with values that full-match what they may be."""
    (target,) = route.targets
    assert re.fullmatch(NAME, route.ref.name)
    assert len(route.ref.name) <= 63
    assert type(target.port) is int
    assert 1 <= target.port <= 65535
    address = ipaddress.ip_address(target.host.strip("[]"))
    host = f"[{address}]" if address.version == 6 else str(address)
    text = re.sub(r"{% if \w+ %}.*?{% endif %}", "", TEMPLATES[template].text, flags=re.DOTALL)  # no setting names it
    text = re.sub(r"{% if not Lighter %}(.*?){% else %}.*?{% endif %}", r"\1", text, flags=re.DOTALL)  # no upgrade
    values = {"Kind": "rayservice", "Name": route.ref.name, "ClusterIP": host, "Port": str(target.port)}
    for variable, value in values.items():
        text = text.replace("{{ " + variable + " }}", value)
    return text


@pytest.mark.fault(22)
@pytest.mark.fault(28)
@settings(
    max_examples=times(100), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(worlds(), st.sampled_from(["prefix", "regex"]), st.booleans())
def test_whatever_objects_hold_nothing_raises_and_only_checked_values_reach_a_file(objects, template, unowned):
    decisions = decide(look(objects), Policy(unowned=unowned))
    files = render(decisions, TEMPLATES[template], CONF)
    routes = {f"ray-{d.ref.name}.conf": d for d in decisions if isinstance(d, Route)}
    assert "ray-fine.conf" in routes
    assert files.keys() == routes.keys() | {*BASE, ROUTES}
    for name, route in routes.items():
        assert files[name].text.startswith(expected(route, template))
    empty = render([], TEMPLATES[template], CONF)
    assert files["nginx.conf"] == empty["nginx.conf"]
    fixed = empty["unrouted.conf"].text.splitlines()
    lines = [line for line in files["unrouted.conf"].text.splitlines() if line not in fixed]
    assert all(re.fullmatch(STATE_LINE, line) for line in lines), lines
    assert all(char.isprintable() for char in table(statuses(decisions, {}, "now").values()).replace("\n", ""))


@pytest.mark.fault(28)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_each_injection_in_each_field_changes_no_byte_but_by_a_checked_value(injection):
    for index, original in enumerate(ORIGINALS):
        for path in paths(original):
            objects: list[object] = list(ORIGINALS)
            objects[index] = replaced(original, path, injection)
            decisions = decide(look(objects), Policy())
            files = render(decisions, TEMPLATES["prefix"], CONF)
            for decision in decisions:
                if isinstance(decision, Route):
                    assert files[f"ray-{decision.ref.name}.conf"].text == expected(decision, "prefix")
