"""Label selectors for manifests, and the status file."""

import json

import pytest

from rayproxy.model import Backend, Pending, Rejection, Route
from rayproxy.selector import parse_selector
from rayproxy.status import read, statuses, table, write
from tests.support.manifests import key

ROUTE = Route(key(), "u", Backend("10.0.0.1", 8000))


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("app=prediction", {"app": "prediction"}, True),
        ("app == prediction", {"app": "prediction"}, True),
        ("app=prediction", {"app": "other"}, False),
        ("app=prediction", {}, False),
        ("app!=test", {}, True),
        ("app!=test", {"app": "test"}, False),
        ("app", {"app": ""}, True),
        ("!app", {"app": ""}, False),
        ("! app", {}, True),
        ("app=", {"app": ""}, True),
        ("a.b/c=d, e", {"a.b/c": "d", "e": "f"}, True),
        ("a.b/c=d, e", {"a.b/c": "d"}, False),
        ("", {}, True),
    ],
)
def test_labels_match_as_the_api_server_matches_them(selector, labels, matches):
    assert parse_selector(selector)(labels) is matches


@pytest.mark.parametrize("selector", ["app in (a)", "a=b=c", "=x", "app=$x", "a b", "app=x\n=y"])
def test_what_is_no_equality_based_selector_is_refused(selector):
    with pytest.raises(ValueError, match="is not a label selector such as app=prediction"):
        parse_selector(selector)


def test_a_state_keeps_its_time_until_it_or_its_reason_changes():
    first = statuses([ROUTE], {}, "1")
    again = statuses([ROUTE], first, "2")
    assert again[key()].since == "1"
    assert statuses([Pending(key(), "u", "a")], again, "3")[key()].since == "3"
    reworded = statuses([Pending(key(), "u", "b")], statuses([Pending(key(), "u", "a")], {}, "3"), "4")
    assert (reworded[key()].since, reworded[key()].message) == ("3", "b")
    assert statuses([Route(key(), "u2", ROUTE.backend)], again, "5")[key()].since == "5"


def test_what_was_written_is_read_back(tmp_path):
    found = statuses([ROUTE, Rejection(key("b"), "", "Why", "because \ud800")], {}, "1")
    write(tmp_path / "s.json", found)
    assert read(tmp_path / "s.json") == found


@pytest.mark.parametrize("text", ["", "{", "7", "[7]", '[{"name": 1}]', "{}", '[{"a":[]}]', "null"])
def test_a_torn_or_foreign_status_file_reads_as_empty(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    assert read(tmp_path / "s.json") == {}
    assert read(tmp_path / "none.json") == {}


def test_a_status_file_of_wrong_types_reads_as_empty(tmp_path):
    write(tmp_path / "s.json", statuses([ROUTE], {}, "1"))
    (row,) = json.loads((tmp_path / "s.json").read_text())
    (tmp_path / "s.json").write_text(json.dumps([row | {"name": ["a"], "since": 7}]))
    assert read(tmp_path / "s.json") == {}


def test_the_table_cannot_play_with_a_terminal():
    hostile = Rejection(key("a\x1b[2Jb"), "", "InvalidName", "no\nnewline " + "x" * 1000)
    lines = table(statuses([ROUTE, hostile], {}, "2024-01-01T00:00:00Z").values()).splitlines()
    assert lines[0].split() == ["NAME", "NAMESPACE", "STATE", "BACKEND", "SINCE", "REASON"]
    assert lines[1].split() == ["chat", "default", "accepted", "10.0.0.1:8000", "2024-01-01T00:00:00Z", "-"]
    assert len(lines) == 3
    assert "\x1b" not in lines[2]
    assert "no?newline" in lines[2]
