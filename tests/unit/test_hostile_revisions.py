"""Whatever lies in the place of a revision's files: nothing raises, and only what its digests say is believed."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayproxy.nginx.render import RouteFiles, file, route_files
from rayproxy.nginx.revisions import Revisions
from rayproxy.nginx.routes import ROUTES
from rayproxy.nginx.templates import load_location
from tests.support.examples import times
from tests.support.manifests import route
from tests.support.routes import CONF

NAMES = ("kind", "namespace", "name", "path", "targets", "host", "port", "weight", "ray-chat.conf", "ray-b.conf")
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["rayservice", "10.0.0.1", "8000", "1" * 5000])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=30,
)
WRITTEN = json.loads(
    '{"kind": "rayservice", "namespace": "a", "name": "chat", "path": "/x", "targets": [{"host": "h", "port": 1}]}'
)
# Entries that are nearly right, with any value in one place.
ENTRIES = st.builds(lambda name, value: WRITTEN | {name: value}, st.sampled_from(sorted(WRITTEN)), VALUES) | st.builds(
    lambda name, value: WRITTEN | {"targets": [{"host": "h", "port": 1} | {name: value}]},
    st.sampled_from(["host", "port", "name", "weight"]),
    VALUES,
)
LISTS = (
    VALUES.map(json.dumps)
    | st.fixed_dictionaries({"ray-chat.conf": ENTRIES}).map(json.dumps)
    | st.text(max_size=40)
    | st.sampled_from(["[", '{"a":']).map(lambda text: text * 5_000)
    | st.sampled_from(["1", "1e"]).map(lambda start: '{"ray-chat.conf": ' + start + "9" * 5000 + "}")
)


@contextmanager
def revisions() -> Iterator[Revisions]:
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    try:
        yield Revisions(folder, "return {};".format)
    finally:
        shutil.rmtree(folder)


def tree(text: str) -> dict:
    files = route_files(RouteFiles()([route("chat"), route("b")], load_location("prefix"), CONF))
    return {"nginx.conf": file(text), "unrouted.conf": file("u")} | files


@settings(max_examples=times(150))
@given(LISTS)
def test_whatever_a_list_of_routes_holds_it_is_read_or_made_up_from_the_files(text: str):
    with revisions() as found:
        revision = found.write(tree("a") | {ROUTES: file(text)}, None)
        routes = found.routes(revision)
        assert routes.keys() <= {"ray-chat.conf", "ray-b.conf"}
        for each in routes.values():
            assert all(isinstance(part, str) for part in (each.ref.kind, each.ref.name, each.path))
            assert all(isinstance(target.port, int) for target in each.targets)


@settings(max_examples=times(150))
@given(st.sampled_from(["SHA256SUMS", "nginx.conf", "ray-chat.conf", ROUTES, "revision.conf"]), st.binary(max_size=80))
def test_whatever_lies_in_the_place_of_a_file_the_revision_before_is_recovered(name: str, raw: bytes):
    with revisions() as found:
        before = found.write(tree("a"), None)
        spoiled = found.write(tree("b"), None)
        found.activate(spoiled)
        if (spoiled.path / name).read_bytes() == raw:
            return
        (spoiled.path / name).unlink()  # another revision's file may be the same on disk
        (spoiled.path / name).write_bytes(raw)
        assert found.recover() == before
        assert found.current() == before


@pytest.mark.parametrize("place", ["current", "SHA256SUMS", "ray-chat.conf"])
def test_a_link_that_leads_round_is_no_revision(place: str):
    with revisions() as found:
        before = found.write(tree("a"), None)
        spoiled = found.write(tree("b"), None)
        found.activate(spoiled)
        path = found.link if place == "current" else spoiled.path / place
        path.unlink()
        path.symlink_to(path.name)
        assert found.recover() in [before, *([spoiled] if place == "current" else [])]
