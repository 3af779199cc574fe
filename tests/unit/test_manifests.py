"""A folder of manifests: what is read, what is kept, and what is never believed."""

import json

import pytest

from rayproxy.manifests import MAX_FILE, ManifestSource
from rayproxy.source import NotSyncedError
from tests.support.manifests import key, rayservice, service

CHAT = rayservice()


@pytest.fixture
def source(tmp_path):
    return ManifestSource(tmp_path, "app=prediction")


def put(source, name, text):
    (source.folder / name).write_text(text if isinstance(text, str) else json.dumps(text))


def names(snapshot):
    return [rs.key.name for rs in snapshot.rayservices]


def test_documents_lists_and_json_are_read(source):
    put(source, "a.yaml", f"---\n{json.dumps(CHAT)}\n---\n{json.dumps(service(CHAT))}\n---\n")
    put(source, "b.json", {"kind": "List", "items": [rayservice("b"), None, 7, {"kind": "Pod"}]})
    put(source, "c.yml", rayservice("c"))
    put(source, "d.txt", rayservice("d"))
    put(source, ".hidden.yaml.swp", "{")
    snapshot = source.snapshot()
    assert (names(snapshot), len(snapshot.services), snapshot.problems) == (["chat", "b", "c"], 1, ())


def test_the_selector_chooses_rayservices_and_never_services(source):
    put(source, "a.yaml", rayservice(labels={"app": "other"}))
    put(source, "b.yaml", service(CHAT))
    assert (names(source.snapshot()), len(source.snapshot().services)) == ([], 1)


BROKEN = [
    "{", "a: [", "\t- x", "!!python/object/apply:os.system ['false']", "a: &a [*b]", "- 0xff: ]", "\x00",
    "? [a]\n: b\n? {c: d}\n: e\n- f", "[" * 100_000, "[" * 100_000 + "]" * 100_000,
    "{a: " * 100_000, "- " * 100_000 + "x",
]  # fmt: skip


@pytest.mark.fault(22)
@pytest.mark.parametrize("text", BROKEN)
def test_a_file_that_was_never_readable_makes_the_world_unknown_and_stays_so(source, text):
    put(source, "good.yaml", CHAT)
    put(source, "bad.yaml", text)
    for _ in range(3):
        snapshot = source.snapshot()
        assert names(snapshot) == ["chat"]
        assert not snapshot.rayservices_known
        assert not snapshot.services_known
        assert len(snapshot.problems) == 1
        assert snapshot.problems[0].startswith("bad.yaml is not read: ")


@pytest.mark.fault(22)
def test_a_file_that_can_no_longer_be_read_keeps_what_it_last_held(source):
    put(source, "a.yaml", CHAT)
    source.snapshot()
    put(source, "a.yaml", "{")
    for _ in range(3):
        snapshot = source.snapshot()
        assert names(snapshot) == ["chat"]
        assert snapshot.rayservices_known
    (source.folder / "a.yaml").unlink()
    assert names(source.snapshot()) == []


@pytest.mark.fault(22)
def test_an_object_without_a_name_is_skipped_and_the_others_of_its_file_are_not(source):
    put(source, "a.yaml", {"kind": "List", "items": [{"kind": "Service"}, CHAT]})
    snapshot = source.snapshot()
    assert names(snapshot) == ["chat"]
    assert snapshot.problems == ("a.yaml: a Service was skipped: metadata.name is missing or not a string",)


def test_of_an_object_that_is_there_twice_the_first_is_used(source):
    put(source, "a.yaml", rayservice(uid="1"))
    put(source, "b.yaml", rayservice(uid="2"))
    snapshot = source.snapshot()
    assert [rs.uid for rs in snapshot.rayservices] == ["1"]
    assert snapshot.problems == ("b.yaml: the RayService default/chat is there twice; the first is used",)


def test_a_bomb_of_aliases_is_read_in_no_time_and_holds_nothing(source):
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    put(source, "a.yaml", "\n".join(lines))
    assert source.snapshot().problems == ()


def test_a_file_that_is_too_large_is_named(source):
    with (source.folder / "a.yaml").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    assert source.snapshot().problems == (f"a.yaml is not read: larger than {MAX_FILE} bytes",)


def test_a_file_that_is_not_utf8_is_named(source):
    (source.folder / "a.yaml").write_bytes(b"a: \xff")
    (problem,) = source.snapshot().problems
    assert problem.startswith("a.yaml is not read: 'utf-8' codec can't decode")


@pytest.mark.fault(19)
def test_a_folder_that_cannot_be_read_is_unknown_and_not_empty(source):
    put(source, "a.yaml", CHAT)
    source.snapshot()
    source.folder.rename(source.folder.with_name("away"))
    with pytest.raises(NotSyncedError, match="cannot be read: No such file or directory"):
        source.snapshot()


@pytest.mark.fault(19)
def test_a_second_look_that_agrees_confirms(source):
    put(source, "a.yaml", CHAT)
    assert [rs.key for rs in source.confirm().rayservices] == [key()]
