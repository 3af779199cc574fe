"""What this replica knows of held names, and how two replicas stay at one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rayproxy.kinds.claims import Claim, Name
from rayproxy.kinds.names import Settled
from rayproxy.ledger.base import StoreError
from rayproxy.ledger.entries import Change, due, read, write
from rayproxy.ledger.file import FileStore
from rayproxy.ledger.ledger import Ledger
from rayproxy.sources.base import NotSyncedError

CHAT, OTHER = ("rayservice", "chat"), ("rayservice", "other")
LATEST = 2_000_000_000


def settled(claims: dict[Name, Claim]) -> Settled:
    return Settled((), claims, frozenset(name for name, claim in claims.items() if claim.gone is None))


def ledger(folder: Path) -> Ledger:
    made = Ledger(FileStore(folder), 600, lambda: None)
    made.look()
    return made


def say(replica: Ledger, claims: dict[Name, Claim]) -> None:
    """Let a replica decide on these claims and write them."""
    replica.held({})
    replica.note(settled(claims))
    replica.look()


def test_an_entry_is_read_as_it_was_written():
    for claim in (Claim("team-a"), Claim("team-a", 1_700_000_000)):
        assert read(dict([write(CHAT, claim)]), LATEST) == ({CHAT: claim}, ())


@pytest.mark.fault(82)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rayservice", "team-a"), ("chat", "team-a"), ("rayservice.a.b", "team-a"), ("RayService.chat", "team-a"),
        ("rayservice.-", "team-a"), ("rayservice.chat", ""), ("rayservice.chat", "Team"), ("rayservice.chat", None),
        ("rayservice.chat", "team-a yesterday"), ("rayservice.chat", "team-a 2026-13-01T00:00:00Z"),
        ("rayservice.chat", "team-a 9999-01-01T00:00:00Z"), ("rayservice.chat", "team-a\n"),
        ("rayservice.chat", ["team-a"]), ("rayservice." + "a" * 64, "team-a"),
    ],
)  # fmt: skip
def test_an_entry_that_is_none_is_ignored_in_words_and_the_others_count(key: str, value: object):
    claims, [problem] = read({key: value, "rayservice.other": "team-b"}, LATEST)
    assert claims == {OTHER: Claim("team-b")}
    assert repr(key[:80]) in problem


@pytest.mark.fault(82)
@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_data_that_is_no_mapping_holds_no_claims(data: object):
    assert read(data, LATEST)[0] == {}


def test_what_somebody_else_changed_meanwhile_stays():
    changes = {CHAT: Change(None, Claim("a")), OTHER: Change(Claim("a"), None)}
    assert due({}, changes) == {CHAT: Claim("a")}
    assert due({CHAT: Claim("b"), OTHER: Claim("a")}, changes) == {OTHER: None}


@pytest.mark.fault(82)
def test_a_new_replica_knows_what_the_others_hold_and_a_restart_forgets_nothing(tmp_path: Path):
    say(ledger(tmp_path), {CHAT: Claim("good", 5)})
    assert ledger(tmp_path).held({}).claims == {CHAT: Claim("good", 5)}


@pytest.mark.fault(82)
def test_a_claim_that_is_taken_away_is_no_problem_of_the_file(tmp_path: Path):
    store = FileStore(tmp_path)
    store.update({CHAT: Change(None, Claim("a")), OTHER: Change(None, Claim("b"))}, LATEST)
    found = store.update({CHAT: Change(Claim("a"), None)}, LATEST)
    assert (found.claims, found.problems) == ({OTHER: Claim("b")}, ())


@pytest.mark.fault(46)
def test_a_folder_that_cannot_be_looked_into_is_told_and_ends_nothing(tmp_path: Path):
    """Here its path is too long; chmod takes it away as well, and a disk that fails."""
    replica = Ledger(FileStore(tmp_path / ("x" * 300)), 600, lambda: None)
    replica.look()
    assert any("names.json: File name too long" in problem for problem in replica.problems)


def test_of_two_replicas_the_first_word_counts_and_neither_corrects_the_other(tmp_path: Path):
    one, two = ledger(tmp_path), ledger(tmp_path)
    one.held({})
    two.held({})
    one.note(settled({CHAT: Claim("good", 5)}))
    two.note(settled({CHAT: Claim("good", 6)}))
    one.look()
    for _ in range(2):
        two.look()
        one.look()
    assert one.held({}).claims == two.held({}).claims == {CHAT: Claim("good", 5)}
    before = (tmp_path / "names.json").stat().st_mtime_ns
    for replica in (one, two):
        say(replica, {CHAT: Claim("good", 5)})
    assert (tmp_path / "names.json").stat().st_mtime_ns == before


@pytest.mark.fault(82)
def test_what_was_decided_while_the_last_word_was_on_its_way_is_written_too(tmp_path: Path):
    replica = ledger(tmp_path)
    replica.held({})
    replica.note(settled({CHAT: Claim("good")}))
    store = replica._store

    class Meanwhile:
        def update(self, changes, latest):
            replica._store = store
            replica.held({})
            replica.note(settled({CHAT: Claim("good", 7)}))
            return store.update(changes, latest)

    replica._store = Meanwhile()
    replica.look()
    assert replica.held({}).claims == {CHAT: Claim("good", 7)}
    replica.look()
    assert ledger(tmp_path).held({}).claims == {CHAT: Claim("good", 7)}


@pytest.mark.fault(82)
def test_until_the_store_was_read_nobody_knows_who_has_a_name(tmp_path: Path):
    class Away:
        def update(self, changes, latest):
            raise StoreError("it is away")

    replica = Ledger(Away(), 600, lambda: None)
    with pytest.raises(NotSyncedError):
        replica.held({})
    replica.look()
    with pytest.raises(NotSyncedError, match="it is away"):
        replica.held({})
    replica._store = FileStore(tmp_path)
    replica.look()
    say(replica, {CHAT: Claim("good", 5)})
    replica._store = Away()
    replica.look()
    assert replica.held({}).claims == {CHAT: Claim("good", 5)}, "later it goes on with what it knows"
    assert replica.problems == ("held names can be neither read nor written: it is away",)


def test_a_change_in_the_store_wakes_the_daemon_and_no_change_does_not(tmp_path: Path):
    woken: list[None] = []
    replica = Ledger(FileStore(tmp_path), 600, lambda: woken.append(None))
    for _ in range(3):
        replica.look()
    assert len(woken) == 1
    say(ledger(tmp_path), {CHAT: Claim("good", 5)})
    replica.look()
    assert len(woken) == 2


@pytest.mark.fault(82)
@pytest.mark.parametrize("text", ["{", "[]", '{"rayservice.chat": 5}', "[" * 100_000])
def test_a_spoiled_file_is_told_and_written_anew(tmp_path: Path, text: str):
    (tmp_path / "names.json").write_text(text)
    replica = ledger(tmp_path)
    assert replica.held({}).claims == {}
    assert "names.json" in replica.problems[0]
    say(replica, {CHAT: Claim("good", int(time.time()))})
    assert json.loads((tmp_path / "names.json").read_text())["rayservice.chat"].startswith("good ")
    replica.look()
    assert not replica.problems


@pytest.mark.fault(156)
@pytest.mark.parametrize("spoiled", [b"", b"[]", b"\0" * 40], ids=["empty", "a list", "zeros"])
def test_a_spoiled_file_is_written_anew_there_and_then_and_told_once(tmp_path: Path, spoiled: bytes):
    path = tmp_path / "names.json"
    path.write_bytes(spoiled)
    replica = Ledger(FileStore(tmp_path), 600, lambda: None)
    told = []
    for _ in range(3):
        replica.look()
        told.append(replica.problems)
    assert told == [(f"{path} held no claims, and was written anew",), (), ()]
    assert json.loads(path.read_text()) == {}


@pytest.mark.fault(156)
def test_claims_are_on_the_disk_before_they_take_the_old_ones_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, synced = tmp_path / "names.json", []
    FileStore(tmp_path).update({CHAT: Change(None, Claim("old"))}, LATEST)
    before = path.read_text()

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").read_text(), path.read_text()))

    monkeypatch.setattr("os.fsync", fsync)
    FileStore(tmp_path).update({CHAT: Change(Claim("old"), Claim("new"))}, LATEST)
    assert synced == [(path.read_text(), before)]
