"""Whole trees on disk: what is trusted, what is brought back, and what is removed."""

import os
import shutil
from dataclasses import replace

import pytest

from rayproxy.nginx import linking
from rayproxy.nginx.linking import _read
from rayproxy.nginx.render import RouteFiles, file, route_files
from rayproxy.nginx.revisions import KEEP, Revisions
from rayproxy.nginx.routes import ROUTES
from rayproxy.nginx.templates import load_location
from tests.support.manifests import route
from tests.support.routes import CONF

BASE = {"nginx.conf": file("n"), "unrouted.conf": file("u")}


def conf(name):
    return f"return {name};"


@pytest.fixture
def revisions(tmp_path):
    return Revisions(tmp_path, conf)


def tree(text="a", **more):
    return {"nginx.conf": file(text)} | {f"ray-{name}.conf": file(value) for name, value in more.items()}


def live(revisions, text="a", **more):
    revision = revisions.write(tree(text, **more), revisions.current())
    revisions.activate(revision)
    return revision


def folders(revisions):
    return sorted(path.name for path in revisions.folder.iterdir())


def test_what_was_written_and_activated_is_current_and_intact(revisions):
    revision = live(revisions, chat="x")
    assert revisions.current() == revision
    assert revisions.intact(revision)
    assert revision.conf.read_text() == "a"
    assert (revision.path / "revision.conf").read_text() == conf(revision.name)
    assert revisions.files(revision, ["ray-chat.conf"]) == {"ray-chat.conf": file("x")}


def test_the_same_files_are_the_same_revision_and_are_not_written_again(revisions):
    first = live(revisions)
    inode = first.conf.stat().st_ino
    assert revisions.write(tree(), None) == first
    assert first.conf.stat().st_ino == inode


@pytest.mark.fault(67)
@pytest.mark.parametrize("known", [True, False], ids=["to the same process", "to one that has just started"])
def test_a_file_that_somebody_edited_is_not_linked_even_if_its_time_was_set_back(revisions, tmp_path, known):
    first = live(revisions, chat="x", other="y")
    first = live(revisions, chat="x", other="z")
    edited = first.path / "ray-chat.conf"
    before = edited.stat()
    edited.write_text("X")
    os.utime(edited, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = live(revisions if known else Revisions(tmp_path, conf), chat="x", other="w")
    assert (second.path / "ray-chat.conf").read_text() == "x"
    assert revisions.intact(second)


@pytest.mark.fault(67)
def test_a_link_in_the_place_of_a_file_is_not_followed(revisions, tmp_path):
    first = live(revisions, chat="x")
    (tmp_path / "elsewhere").write_text("x")
    (first.path / "ray-chat.conf").unlink()
    (first.path / "ray-chat.conf").symlink_to(tmp_path / "elsewhere")
    second = live(revisions, chat="x", other="y")
    assert not (second.path / "ray-chat.conf").is_symlink()
    assert (second.path / "ray-chat.conf").read_text() == "x"


def test_what_was_found_right_once_is_not_read_again(revisions, monkeypatch):
    live(revisions, chat="x")
    live(revisions, chat="x", one="1")
    read = []
    monkeypatch.setattr("rayproxy.nginx.linking._read", lambda name, _: read.append(name))
    live(revisions, chat="x", one="1", two="2")
    assert "ray-chat.conf" not in read


@pytest.fixture
def read(monkeypatch):
    """Return the names of the files that are read for a link, as they are read."""
    names = []
    monkeypatch.setattr("rayproxy.nginx.linking._read", lambda name, folder: names.append(name) or _read(name, folder))
    return names


@pytest.mark.parametrize("how", ["pruned", "refused"])
def test_what_was_found_right_is_not_read_again_though_other_revisions_with_it_go(revisions, read, how):
    live(revisions, chat="x")
    for number in range(8):
        if how == "pruned":
            live(revisions, chat="x", other=str(number))
            revisions.prune()
        else:
            revisions.discard(revisions.write(tree(chat="x", other=str(number)), revisions.current()))
    assert read.count("ray-chat.conf") == 1


@pytest.mark.fault(67)
def test_what_goes_costs_a_look_at_the_files_that_it_has_and_at_no_others(revisions, monkeypatch):
    live(revisions, chat="a", b="x")
    live(revisions, chat="a", b="x", c="y")
    tried = revisions.write({"ray-c.conf": file("z")}, None)
    looked_at: set[str] = set()
    monkeypatch.setattr(linking, "_seen", looked_at.add)
    revisions.discard(tried)
    assert {path.rpartition("/")[2] for path in looked_at} <= {"ray-c.conf"}


def test_a_file_that_somebody_edits_while_an_old_revision_goes_is_not_linked(revisions, monkeypatch):
    for number in range(KEEP + 1):
        live(revisions, chat="x", other=str(number))
    rmtree = shutil.rmtree

    def edit_meanwhile(path, **options):
        rmtree(path, **options)
        (revisions.current().path / "ray-chat.conf").write_text("X")

    monkeypatch.setattr("rayproxy.nginx.revisions.shutil.rmtree", edit_meanwhile)
    revisions.prune()
    monkeypatch.undo()
    assert (live(revisions, chat="x", other="new").path / "ray-chat.conf").read_text() == "x"


@pytest.mark.fault(67)
def test_an_edited_file_is_not_read_back_as_what_it_was(revisions):
    first = live(revisions, chat="x", other="y")
    (first.path / "ray-chat.conf").write_text("edited")
    assert revisions.files(first, ["ray-chat.conf", "ray-other.conf"]) == {"ray-other.conf": file("y")}


def test_unchanged_files_are_linked_from_the_revision_before(revisions):
    first, second = live(revisions, chat="x", slow="y"), live(revisions, chat="z", slow="y")
    assert (second.path / "ray-slow.conf").stat().st_ino == (first.path / "ray-slow.conf").stat().st_ino
    assert (first.path / "ray-chat.conf").read_text() == "x"
    assert (second.path / "ray-chat.conf").read_text() == "z"


def test_sha256sum_reads_the_list(revisions):
    revision = live(revisions, chat="x")
    assert os.system(f"cd {revision.path} && sha256sum -c --quiet SHA256SUMS") == 0


DAMAGE = {
    "edited": lambda path: (path / "ray-chat.conf").write_text("edited"),
    "emptied": lambda path: os.truncate(path / "nginx.conf", 0),
    "removed": lambda path: (path / "ray-chat.conf").unlink(),
    "added": lambda path: (path / "ray-evil.conf").write_text("x"),
    "not UTF-8": lambda path: (path / "revision.conf").write_bytes(b"\xff"),
    "renamed revision": lambda path: (path / "revision.conf").write_text(conf("other")),
    "a folder": lambda path: ((path / "ray-chat.conf").unlink(), (path / "ray-chat.conf").mkdir()),
}


@pytest.mark.fault(49)
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_tree_is_not_intact_and_its_content_is_written_again_beside_it(revisions, how):
    good = live(revisions, chat="old")
    bad = live(revisions, chat="new")
    DAMAGE[how](bad.path)
    assert not revisions.intact(bad)
    again = revisions.write(tree(chat="new"), None)
    assert again.name == f"{bad.name}-1"
    assert revisions.intact(again)
    assert revisions.recover() in (good, again)


@pytest.mark.fault(49)
@pytest.mark.parametrize("how", ["torn", "empty", "gone", "not UTF-8"])
def test_a_tree_without_its_whole_list_is_no_revision(revisions, how):
    live(revisions, "old")
    bad = live(revisions, "new")
    sums = bad.path / "SHA256SUMS"
    text = sums.read_bytes()
    sums.unlink()
    if how != "gone":
        sums.write_bytes({"torn": text[:40], "empty": b"", "not UTF-8": b"\xff" + text}[how])
    assert revisions.current() is None


@pytest.mark.fault(49)
def test_recovery_takes_the_newest_revision_that_is_whole(revisions):
    for number, text in enumerate("123"):
        os.utime(live(revisions, text).path / "SHA256SUMS", ns=(number, number))
    newest = revisions.current()
    assert newest
    newest.conf.write_text("edited")
    recovered = revisions.recover()
    assert recovered
    assert recovered.conf.read_text() == "2"
    assert revisions.current() == recovered


@pytest.mark.fault(43)
@pytest.mark.parametrize("target", [None, "revisions/none", "/etc", "revisions/../..", "revisions/0123456789abcdef"])
def test_a_link_that_leads_elsewhere_is_no_revision_and_is_replaced(revisions, target):
    good = live(revisions)
    revisions.link.unlink()
    if target:
        revisions.link.symlink_to(target)
    assert revisions.current() is None
    assert revisions.recover() == good
    assert revisions.current() == good


@pytest.mark.fault(48)
def test_what_a_killed_daemon_left_half_written_is_removed_at_the_next_start(tmp_path):
    revisions = Revisions(tmp_path, conf)
    (revisions.folder / ".tmp-99").mkdir()
    (revisions.folder / ".tmp-99/nginx.conf").write_text("half")
    (tmp_path / ".current.tmp").symlink_to("nowhere")
    again = Revisions(tmp_path, conf)
    again.remove_leftovers()
    assert folders(again) == []
    live(again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "revisions"]


@pytest.mark.fault(50)
def test_pruning_keeps_the_newest_the_current_and_everything_that_is_not_ours(revisions):
    oldest = live(revisions, "0")
    made = [revisions.write(tree(str(number)), None) for number in range(1, 7)]
    for number, revision in enumerate([oldest, *made]):
        os.utime(revision.path / "SHA256SUMS", ns=(number, number))
    (revisions.folder / "0123456789abcdef").mkdir()
    (revisions.folder / "notes").mkdir()
    revisions.prune()
    kept = {revision.name for revision in [*made[-KEEP:], oldest]} | {"notes", "0123456789abcdef"}
    assert set(folders(revisions)) == kept


@pytest.mark.fault(48)
def test_a_removal_that_is_cut_short_leaves_nothing_that_looks_like_a_revision(revisions, monkeypatch):
    live(revisions, "0")
    candidate = revisions.write(tree("1"), None)
    monkeypatch.setattr(
        "rayproxy.nginx.revisions.shutil.rmtree", lambda *_, **__: None
    )  # killed before the first unlink
    revisions.discard(candidate)
    assert not (revisions.folder / candidate.name).exists()
    monkeypatch.undo()
    revisions.remove_leftovers()
    assert len(folders(revisions)) == 1


@pytest.mark.fault(142)
def test_who_opens_the_folder_while_a_revision_is_written_takes_nothing_of_it_away(tmp_path):
    def read_meanwhile(name):
        Revisions(tmp_path, conf).current()
        return conf(name)

    writer = Revisions(tmp_path, read_meanwhile)
    assert writer.intact(live(writer, chat="x"))


def test_the_current_revision_is_never_discarded(revisions):
    current = live(revisions)
    revisions.discard(current)
    assert revisions.intact(current)


@pytest.mark.fault(45)
@pytest.mark.fault(47)
@pytest.mark.parametrize("call", ["pathlib.Path.write_text", "pathlib.Path.rename"])
def test_a_write_that_fails_leaves_no_trace_and_current_as_it_was(revisions, monkeypatch, call):
    current = live(revisions)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(call, fail)
    with pytest.raises(OSError, match="No space left"):
        revisions.write(tree("other"), current)
    monkeypatch.undo()
    assert folders(revisions) == [current.name]
    assert revisions.recover() == current


@pytest.mark.fault(47)
def test_a_sync_that_fails_is_raised_and_current_is_whole(revisions, monkeypatch):
    written = live(revisions, chat="x")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        revisions.fsync()
    assert revisions.recover() == written


def test_a_file_system_without_hard_links_gets_copies(revisions, monkeypatch):
    live(revisions, chat="x")

    def fail(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", fail)
    assert revisions.intact(live(revisions, chat="x", slow="y"))


def test_the_routes_of_a_revision_are_read_back_as_they_were_but_for_what_no_file_says(revisions):
    found = RouteFiles()([route("chat"), route("b", "[fd00::1]")], load_location("prefix"), CONF)
    revision = revisions.write(BASE | route_files(found), None)
    assert revisions.routes(revision) == {
        name: replace(each.route, uid="", created="") for name, each in found.items()
    }


def test_a_revision_of_before_there_were_routes_as_data_is_taken_over(revisions):
    """As 0.1.0 wrote them: by the template `prefix`, by the documented one, and by an operator's own."""
    old = revisions.write(
        {
            "nginx.conf": file("n"),
            "unrouted.conf": file("u"),
            "ray-a.conf": file("location ^~ /apis/rayservice/a/ {\n    proxy_pass http://10.0.0.1:8000/;\n}\n"),
            "ray-b-c.conf": file("location ~ /x/(.*) {\n set $target http://[fd00::7]:9000/;\n}\n"),
            "ray-own.conf": file("location /own/ { return 204; }"),
        },
        None,
    )
    assert {name: (str(each.ref.name), *map(str, each.targets)) for name, each in revisions.routes(old).items()} == {
        "ray-a.conf": ("a", "10.0.0.1:8000"),
        "ray-b-c.conf": ("b-c", "[fd00::7]:9000"),
        "ray-own.conf": ("own",),
    }


def test_a_spoiled_list_of_routes_is_made_up_from_the_files(revisions):
    found = RouteFiles()([route("chat")], load_location("prefix"), CONF)
    revision = revisions.write(BASE | route_files(found), None)
    (revision.path / ROUTES).write_text("{}")
    assert not revisions.intact(revision)
    assert [each.ref.name for each in revisions.routes(revisions.salvage(revision)).values()] == ["chat"]


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.unlink(), lambda path: path.write_text("{}"), lambda path: path.write_text("")],
    ids=["removed", "edited", "emptied"],
)
def test_a_list_of_routes_that_somebody_spoiled_holds_no_change_up(revisions, spoil):
    revision = revisions.write(BASE | route_files(RouteFiles()([route("chat")], load_location("prefix"), CONF)), None)
    spoil(revision.path / ROUTES)
    assert [each.ref.name for each in revisions.routes(revision).values()] == ["chat"]


REF = '"kind": "rayservice", "namespace": "a", "name": "chat", "path": "/x"'


@pytest.mark.parametrize(
    "entry",
    [
        '{"weights": []}',
        f'{{{REF}, "targets": 5}}',
        f'{{{REF}, "targets": {{"host": 1}}}}',
        f'{{{REF}, "targets": [{{"host": "10.0.0.1", "port": []}}]}}',
        f'{{{REF}, "targets": [{{"host": "10.0.0.1", "port": "http"}}]}}',
    ],
)
def test_a_list_of_routes_that_a_later_version_wrote_holds_no_change_up(revisions, entry):
    files = route_files(RouteFiles()([route("chat")], load_location("prefix"), CONF))
    revision = revisions.write(BASE | files | {ROUTES: file(f'{{"ray-chat.conf": {entry}}}')}, None)
    (found,) = revisions.routes(revision).values()
    assert (found.ref.name, *map(str, found.targets)) == ("chat", "10.0.0.1:8000")
