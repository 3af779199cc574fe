"""A kubeconfig that says as whom: the API server hears it with each request, or nothing is asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayproxy.kube.api import ApiServer
from rayproxy.kube.login import from_kubeconfig
from rayproxy.kube.session import CredentialsError, Login
from tests.support.reflecting import PATH, QUICK
from tests.support.scripted import ScriptedApi

ALWAYS = 0.0  # s; read the login again for each request
WHOLE: dict[str, Any] = {
    "as": "deployer",
    "as-uid": "42",
    "as-groups": ["one, two", "three"],
    "as-user-extra": {"example.org/Scopes": ["read", "50%"], "team": ["é"]},
}
FIELDS = [
    ("impersonate-user", "deployer"),
    ("impersonate-uid", "42"),
    ("impersonate-group", "one, two"),
    ("impersonate-group", "three"),
    ("impersonate-extra-example.org%2fscopes", "read"),
    ("impersonate-extra-example.org%2fscopes", "50%"),
    ("impersonate-extra-team", "é"),
]


def load(path: Path, server: str, user: dict[str, Any], **cluster: str) -> Callable[[], Login]:
    """Write a kubeconfig and return what loads it."""
    said = {
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": server} | {name.replace("_", "-"): value for name, value in cluster.items()},
            }
        ],
        "users": [{"name": "u", "user": {"token": "one"} | user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(said, sort_keys=False))
    return partial(from_kubeconfig, str(path), None)


def impersonated(api: ScriptedApi) -> list[list[tuple[str, str]]]:
    """Return the fields about it of each request, in their order, as an API server reads them: UTF-8."""
    return [
        [(name, value.encode("latin-1").decode()) for name, value in seen.fields if name.startswith("impersonate-")]
        for seen in api.seen
    ]


@pytest.mark.fault(159)
def test_each_request_says_as_whom_watches_too(folder: Path, api: ScriptedApi):
    server = ApiServer(load(folder / "config", api.url, WHOLE), ALWAYS, QUICK)
    server.get(PATH)
    list(server.list(PATH, {"limit": "1"}))
    server.watch(PATH, {"watch": "1", "resourceVersion": "1"}, 5.0).close()
    server.send("PATCH", PATH, {})
    assert impersonated(api) == [FIELDS] * 4
    assert {seen.headers["authorization"] for seen in api.seen} == {"Bearer one"}


@pytest.mark.fault(159)
def test_a_proxy_of_plain_text_is_told_the_same(folder: Path, api: ScriptedApi):
    config = load(folder / "config", "http://api.example", WHOLE, proxy_url=api.url)
    ApiServer(config, 60.0, QUICK).get(PATH)
    assert impersonated(api) == [FIELDS]
    assert api.seen[0].headers["host"] == "api.example"


@pytest.mark.fault(159)
def test_who_is_somebody_else_now_is_so_from_the_next_reading_on(folder: Path, api: ScriptedApi):
    server = ApiServer(load(folder / "config", api.url, {}), ALWAYS, QUICK)
    server.get(PATH)
    load(folder / "config", api.url, {"as": "deployer", "as-groups": None})
    server.get(PATH)
    load(folder / "config", api.url, {"as": ""})
    server.get(PATH)
    assert impersonated(api) == [[], [("impersonate-user", "deployer")], []]


@pytest.mark.fault(159)
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"as": "a\r\nX-Injected: 1"}, "its as holds a character"),
        ({"as": "a\nb"}, "its as holds a character"),
        ({"as": "a\x7f"}, "its as holds a character"),
        ({"as": "a", "as-uid": "\x00"}, "its as-uid holds a character"),
        ({"as": "a", "as-groups": ["b", "c\n"]}, "its as-groups holds a character"),
        ({"as": "a", "as-user-extra": {"k": ["\r"]}}, "its as-user-extra holds a character"),
        ({"as": 5}, "its as is not text"),
        ({"as": "a", "as-groups": "b"}, "its as-groups is not a list of text"),
        ({"as": "a", "as-groups": [7]}, "its as-groups is not a list of text"),
        ({"as": "a", "as-user-extra": ["b"]}, "its as-user-extra is not a mapping to lists of text"),
        ({"as": "a", "as-user-extra": {"k": "v"}}, "its as-user-extra is not a mapping to lists of text"),
        ({"as": "a", "as-user-extra": {7: ["v"]}}, "its as-user-extra is not a mapping to lists of text"),
        ({"as-groups": ["b"]}, "says as-groups without as, whom"),
        ({"as": "", "as-uid": "1", "as-user-extra": {"k": ["v"]}}, "says as-uid without as, whom"),
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_asked(
    folder: Path, api: ScriptedApi, said: dict[str, Any], words: str
):
    with pytest.raises(CredentialsError, match=words):
        ApiServer(load(folder / "config", api.url, said), 60.0, QUICK)
    assert api.seen == []
