"""Label selectors for manifests, and the status file."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.model import Pending, Rejection
from rayproxy.report.behind import Behind
from rayproxy.report.status import read, statuses, table, write
from rayproxy.selector import parse_selector
from tests.support.manifests import ref, route
from tests.support.selectors import MATCHES, NONE, TAKEN_BY_SOME

ROUTE = route()


@pytest.mark.parametrize(("selector", "labels", "matches"), MATCHES)
def test_labels_match_as_the_api_server_matches_them(selector, labels, matches):
    assert parse_selector(selector)(labels) is matches


@pytest.mark.parametrize("selector", [*NONE, *TAKEN_BY_SOME])
def test_what_the_api_server_would_not_take_is_refused_with_how_to_write_it(selector):
    with pytest.raises(ValueError, match=r"is not a label selector: .*write it like app=prediction, app in "):
        parse_selector(selector)


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("app in prediction", "'prediction' stands where '(' must"),
        ("app in (a", "the end stands where"),
        ("app,", "the end stands where a label's key must"),
        ("a/b/c=d", "the key 'a/b/c' has a prefix that is no DNS subdomain"),
        ("app=a:b", "the value 'a:b' is none"),
        ("size>big", "'big' after '>' is not an integer of 64 bits"),
    ],
)
def test_what_is_wrong_with_a_selector_is_named(selector, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_selector(selector)


@given(st.text("ab=!<>(), \tin\n-/.1", max_size=20), st.dictionaries(st.sampled_from("ab"), st.sampled_from("ab1")))
def test_any_text_is_a_selector_or_refused(text, labels):
    try:
        matches = parse_selector(text)
    except ValueError:
        return
    assert matches(labels) in (True, False)


def test_a_state_keeps_its_time_until_it_or_its_reason_changes():
    first = statuses([ROUTE], {}, "1")
    again = statuses([ROUTE], first, "2")
    assert again[ref()].since == "1"
    assert statuses([Pending(ref(), "u", "a")], again, "3")[ref()].since == "3"
    reworded = statuses([Pending(ref(), "u", "b")], statuses([Pending(ref(), "u", "a")], {}, "3"), "4")
    assert (reworded[ref()].since, reworded[ref()].message) == ("3", "b")
    assert statuses([replace(ROUTE, uid="u2")], again, "5")[ref()].since == "5"


def test_what_was_written_is_read_back(tmp_path):
    found = statuses([ROUTE, Rejection(ref("b"), "", "Why", "because \ud800")], {}, "1")
    found[ref()] = replace(found[ref()], behind=Behind("ready", "1", 1, 2, "words"))
    write(tmp_path / "s.json", found)
    assert read(tmp_path / "s.json") == found


@pytest.mark.parametrize(
    "text", ["", "{", "7", "[7]", '[{"name": 1}]', "{}", '[{"a":[]}]', "null", '[{"behind": 7}]', "[" * 100_000]
)
def test_a_torn_or_foreign_status_file_reads_as_empty(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    assert read(tmp_path / "s.json") == {}
    assert read(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ["a"], "since": 7},
        {"since": None},
        {"uid": 7},
        {"behind": {"state": "unavailable", "since": None, "ready": 0, "endpoints": 1, "words": ""}},
        {"behind": {"state": "unavailable", "since": "1", "ready": "0", "endpoints": 1, "words": ""}},
    ],
)
def test_a_status_file_of_wrong_types_reads_as_empty(tmp_path, wrong):
    write(tmp_path / "s.json", statuses([ROUTE], {}, "1"))
    (row,) = json.loads((tmp_path / "s.json").read_text())
    (tmp_path / "s.json").write_text(json.dumps([row | wrong]))
    assert read(tmp_path / "s.json") == {}


def test_the_table_cannot_play_with_a_terminal():
    hostile = Rejection(ref("a\x1b[2Jb"), "", "InvalidName", "no\nnewline " + "x" * 1000)
    lines = table(statuses([ROUTE, hostile], {}, "2024-01-01T00:00:00Z").values()).splitlines()
    assert lines[0].split() == ["NAME", "NAMESPACE", "KIND", "STATE", "BACKEND", "SINCE", "ENDPOINTS", "REASON"]
    since = "2024-01-01T00:00:00Z"
    assert lines[1].split() == ["chat", "default", "rayservice", "accepted", "10.0.0.1:8000", since, "-", "-"]
    assert len(lines) == 3
    assert "\x1b" not in lines[2]
    assert "no?newline" in lines[2]


@pytest.mark.parametrize(
    ("behind", "words"),
    [
        (Behind("ready", "1", 1, 2), "ready 1/2 -"),
        (Behind("ready", "1", 1, 1, "an application is DEPLOYING"), "ready 1/1 an application is DEPLOYING"),
        (Behind("unavailable", "1", 0, 2, "not\x1b ready"), "unavailable 0/2 since 1: not? ready"),
        (Behind("unavailable", "1", 0, 0), "unavailable 0/0 since 1"),
    ],
)
def test_the_table_says_who_answers_behind_a_route(behind, words):
    [status] = statuses([ROUTE], {}, "now").values()
    row = table([replace(status, behind=behind)]).splitlines()[1]
    assert " ".join(row.split()).endswith(f"now {words}")
