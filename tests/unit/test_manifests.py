"""A folder of manifests: what is read, what is kept, and what is never believed."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayproxy.kinds import resources
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.rayservice import RAYSERVICES, SERVICES
from rayproxy.model import Key, Pending, Rejection
from rayproxy.sources.base import NotSyncedError
from rayproxy.sources.documents import objects
from rayproxy.sources.manifests import MAX_FILE, ManifestSource
from tests.support.deciding import decide
from tests.support.examples import times
from tests.support.manifests import rayservice, service, target_of

CHAT = rayservice()


@pytest.fixture
def source(tmp_path):
    return ManifestSource(tmp_path, resources(), "app=prediction")


def put(source, name, text):
    (source.folder / name).write_text(text if isinstance(text, str) else json.dumps(text))


def names(snapshot):
    return [rs.key.name for rs in snapshot.of(RAYSERVICES)]


def test_documents_lists_and_json_are_read(source):
    put(source, "a.yaml", f"---\n{json.dumps(CHAT)}\n---\n{json.dumps(service(CHAT))}\n---\n")
    put(source, "b.json", {"kind": "List", "items": [rayservice("b"), {"kind": "Pod"}, {}]})
    put(source, "c.yml", rayservice("c"))
    put(source, "d.txt", rayservice("d"))
    put(source, ".hidden.yaml.swp", "{")
    snapshot = source.snapshot()
    assert (names(snapshot), len(snapshot.of(SERVICES)), snapshot.problems) == (["chat", "b", "c"], 1, ())


def test_the_selector_chooses_rayservices_and_never_services(source):
    put(source, "a.yaml", rayservice(labels={"app": "other"}))
    put(source, "b.yaml", service(CHAT))
    assert (names(source.snapshot()), len(source.snapshot().of(SERVICES))) == ([], 1)


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
        assert snapshot.unknown == set(resources())
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
        assert not snapshot.unknown
    (source.folder / "a.yaml").unlink()
    assert names(source.snapshot()) == []


@pytest.fixture
def parsed(monkeypatch):
    """Return the texts that are parsed from now on."""
    texts = []
    monkeypatch.setattr(
        "rayproxy.sources.manifests.objects", lambda text, **more: [texts.append(text), *objects(text, **more)][1:]
    )
    return texts


@pytest.mark.fault(117)
@pytest.mark.parametrize("text", ["a: 1", "{"], ids=["whole", "broken"])
def test_a_file_is_parsed_again_when_it_has_changed_and_not_before(source, parsed, monkeypatch, text):
    monkeypatch.setattr("rayproxy.sources.manifests.SETTLED", 0.0)
    put(source, "a.yaml", text)
    put(source, "b.yaml", CHAT)
    problems = {source.snapshot().problems for _ in range(3)}
    assert sorted(parsed) == sorted([text, json.dumps(CHAT)])
    assert len(problems) == 1
    put(source, "a.yaml", rayservice("new"))
    assert names(source.snapshot()) == ["new", "chat"]
    (source.folder / "b.yaml").unlink()
    assert names(source.snapshot()) == ["new"]
    assert source._parsed.keys() == {"a.yaml"}


@pytest.mark.fault(117)
def test_a_file_that_was_written_a_moment_ago_is_parsed_again_since_a_clock_has_steps(source, parsed):
    put(source, "a.yaml", CHAT)
    for _ in range(3):
        source.snapshot()
    assert len(parsed) == 3


@pytest.mark.fault(22)
def test_an_object_without_a_name_is_skipped_and_the_others_of_its_file_are_not(source):
    put(source, "a.yaml", {"kind": "List", "items": [{"apiVersion": "v1", "kind": "Service"}, CHAT]})
    snapshot = source.snapshot()
    assert names(snapshot) == ["chat"]
    assert snapshot.problems == ("a.yaml: a Service was skipped: metadata.name is missing or not a string",)


def test_of_an_object_that_is_there_twice_the_first_is_used(source):
    put(source, "a.yaml", rayservice(uid="1"))
    put(source, "b.yaml", rayservice(uid="2"))
    snapshot = source.snapshot()
    assert [rs.uid for rs in snapshot.of(RAYSERVICES)] == ["1"]
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
    assert [rs.key for rs in source.confirm().of(RAYSERVICES)] == [Key("default", "chat")]


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
@pytest.mark.parametrize("text", ["", "\n"])
def test_a_file_that_is_emptied_keeps_what_it_held_until_it_is_removed(source, name, text):
    """A shell empties it first: `kubectl get rayservices -o yaml > all.yaml`."""
    put(source, name, CHAT)
    source.snapshot()
    put(source, name, text)
    assert names(source.snapshot()) == names(source.confirm()) == ["chat"]
    assert source.snapshot().problems == (
        f"{name} is not read: it is empty, and what it held stays until it is removed",
    )
    (source.folder / name).unlink()
    assert (names(source.snapshot()), source.snapshot().problems) == ([], ())


@pytest.mark.parametrize("name", ["b.yaml", "b.json"])
def test_a_file_that_has_always_been_empty_holds_nothing_up(source, name):
    put(source, name, "")
    put(source, "a.yaml", CHAT)
    assert names(source.snapshot()) == ["chat"]
    (source.folder / "a.yaml").unlink()
    assert (names(source.snapshot()), source.snapshot().unknown, source.snapshot().problems) == ([], frozenset(), ())


FROM_GIT = """\
apiVersion: ray.io/v1
kind: RayService
metadata:
  name: chat
  labels: {app: prediction}
spec:
  serveConfigV2: "applications: []"
"""
# As `kubectl get service chat-serve-svc -o yaml` prints it, KubeRay's owner with its uid included.
EXPORTED = """\
apiVersion: v1
kind: Service
metadata:
  creationTimestamp: "2026-11-02T10:11:12Z"
  labels:
    ray.io/originated-from-cr-name: chat
    ray.io/originated-from-crd: RayService
    ray.io/serve: chat-serve
  name: {name}
  namespace: default
  ownerReferences:
  - apiVersion: ray.io/v1
    blockOwnerDeletion: true
    controller: true
    kind: RayService
    name: {owner}
    uid: 3f7c2ab1-5a53-4d6c-9a4e-2f6c5b1f0f11
  resourceVersion: "4711"
  uid: 91b6a1a4-0000-4000-8000-000000000000
spec:
  clusterIP: 10.0.0.7
  clusterIPs:
  - 10.0.0.7
  internalTrafficPolicy: Cluster
  ports:
  - name: serve
    port: 8000
    protocol: TCP
    targetPort: 8000
  selector:
    ray.io/cluster: chat-x7k2p
    ray.io/serve: "true"
  type: ClusterIP
status:
  loadBalancer: {{}}
"""


def decided(source):
    (decision,) = decide(source.snapshot(), Policy(unowned=True))
    return decision


@pytest.mark.parametrize("name", ["chat-serve-svc", "renamed"])
def test_a_rayservice_from_git_is_routed_to_its_service_as_it_was_exported(source, name):
    put(source, "chat.yaml", FROM_GIT)
    put(source, "service.yaml", EXPORTED.format(name=name, owner="chat"))
    assert str(target_of(decided(source))) == "10.0.0.7:8000"


def test_the_exported_service_of_another_rayservice_is_not_taken(source):
    put(source, "chat.yaml", FROM_GIT)
    put(source, "service.yaml", EXPORTED.format(name="chat-serve-svc", owner="other"))
    rejection = decided(source)
    assert isinstance(rejection, Rejection)
    assert "owned by RayService other" in rejection.message


def test_a_rayservice_with_a_uid_of_its_own_does_not_take_the_service_of_a_namesake(source):
    put(source, "chat.yaml", FROM_GIT.replace("  name: chat\n", "  name: chat\n  uid: another\n"))
    put(source, "service.yaml", EXPORTED.format(name="chat-serve-svc", owner="chat"))
    pending = decided(source)
    assert isinstance(pending, Pending)
    assert "in manifests: export both anew" in pending.message


def test_an_owner_of_another_api_group_is_not_kuberay(source):
    put(source, "chat.yaml", FROM_GIT)
    foreign = EXPORTED.format(name="chat-serve-svc", owner="chat").replace(
        "- apiVersion: ray.io/v1", "- apiVersion: x/v1"
    )
    put(source, "service.yaml", foreign)
    assert isinstance(decided(source), Rejection)


def without_kind(obj):
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_lists_as_the_api_server_gives_them_are_read(source, suffix):
    """`kubectl get --raw` prints a ServiceList whose items say neither kind nor apiVersion."""
    put(source, f"r.{suffix}", {"apiVersion": "ray.io/v1", "kind": "RayServiceList", "items": [CHAT]})
    put(source, f"s.{suffix}", {"apiVersion": "v1", "kind": "ServiceList", "items": [without_kind(service(CHAT))]})
    assert target_of(decided(source))
    put(source, f"r.{suffix}", {"apiVersion": "ray.io/v1", "kind": "RayServiceList", "items": [without_kind(CHAT)]})
    assert target_of(decided(source))


@pytest.mark.parametrize("empty", [{"items": None}, {"items": []}, {}])
def test_an_empty_list_is_no_problem(source, empty):
    put(source, "a.yaml", {"apiVersion": "v1", "kind": "List", **empty})
    snapshot = source.snapshot()
    assert (snapshot.problems, snapshot.unknown) == ((), frozenset())


@pytest.mark.parametrize(
    "version", ["serving.knative.dev/v1", "serving.kserve.io/v1beta1", "core.example.com/v1", "v1/x"]
)
def test_a_service_of_another_api_group_is_no_service(source, version):
    put(source, "a.yaml", CHAT)
    put(source, "b.yaml", service(CHAT) | {"apiVersion": version})
    assert isinstance(decided(source), Pending)


def test_a_rayservice_of_any_version_of_kuberays_group_is_read_and_of_another_group_is_not(source):
    put(source, "a.yaml", rayservice("a") | {"apiVersion": "ray.io/v1alpha1"})
    put(source, "b.yaml", rayservice("b") | {"apiVersion": "example.com/v1"})
    assert (names(source.snapshot()), source.snapshot().problems) == (["a"], ())


def test_an_object_without_a_version_is_named(source):
    put(source, "a.yaml", {key: value for key, value in CHAT.items() if key != "apiVersion"})
    assert source.snapshot().problems == ("a.yaml: a RayService was skipped: apiVersion is missing or not a string",)


def test_what_is_no_object_is_named(source):
    put(source, "a.yaml", "- a\n---\ntext\n---\n# nothing\n---\n" + json.dumps({"kind": "List", "items": [7, CHAT]}))
    snapshot = source.snapshot()
    assert names(snapshot) == ["chat"]
    assert snapshot.problems == ("a.yaml: something that is no object was skipped",) * 3


def test_sub_folders_are_read_and_what_begins_with_a_dot_is_not(source):
    (source.folder / "team/deep").mkdir(parents=True)
    (source.folder / ".git").mkdir()
    put(source, "a.yaml", rayservice("a"))
    put(source, "team/b.yaml", rayservice("b"))
    put(source, "team/deep/c.json", rayservice("c"))
    put(source, "team/broken.yaml", "{")
    for hidden in (".git/d.yaml", ".e.yaml", "team/.f.yaml"):
        put(source, hidden, "{")
    snapshot = source.snapshot()
    assert sorted(names(snapshot)) == ["a", "b", "c"]
    (problem,) = snapshot.problems
    assert problem.startswith("team/broken.yaml is not read: line ")


def test_a_mounted_configmap_with_a_sub_folder_is_read_once(source):
    """The kubelet links each name to ..data, which links to a folder of the time, and swaps that link."""
    for time, name in (("..2026_01", "old"), ("..2026_02", "new")):
        (source.folder / time / "team").mkdir(parents=True)
        put(source, f"{time}/chat.yaml", rayservice(name))
        put(source, f"{time}/team/more.yaml", rayservice(f"{name}-more"))
    for link, target in (("..data", "..2026_01"), ("chat.yaml", "..data/chat.yaml"), ("team", "..data/team")):
        (source.folder / link).symlink_to(target)
    assert sorted(names(source.snapshot())) == ["old", "old-more"]
    (source.folder / "..new").symlink_to("..2026_02")
    (source.folder / "..new").rename(source.folder / "..data")
    snapshot = source.snapshot()
    assert (sorted(names(snapshot)), snapshot.problems) == (["new", "new-more"], ())


def test_a_link_in_a_circle_ends(source):
    (source.folder / "team").mkdir()
    (source.folder / "team/up").symlink_to("..")
    (source.folder / "self.yaml").symlink_to("self.yaml")
    put(source, "team/a.yaml", CHAT)
    snapshot = source.snapshot()
    assert (names(snapshot), snapshot.problems) == (["chat"], ())


def test_a_sub_folder_that_cannot_be_read_takes_nothing_away(source, monkeypatch):
    (source.folder / "team").mkdir()
    put(source, "a.yaml", CHAT)
    iterdir = Path.iterdir

    def refuse(path):
        if path.name == "team":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
    snapshot = source.snapshot()
    assert snapshot.problems == ("team is not read: Permission denied",)
    assert (names(snapshot), snapshot.unknown) == (["chat"], set(resources()))


def test_a_sub_folder_that_can_no_longer_be_read_keeps_what_its_files_last_held(source, monkeypatch):
    (source.folder / "team/deep").mkdir(parents=True)
    (source.folder / "teams").mkdir()
    put(source, "team/a.yaml", rayservice("a"))
    put(source, "team/deep/b.yaml", rayservice("b"))
    put(source, "teams/c.yaml", rayservice("c"))
    before = source.snapshot()
    iterdir = Path.iterdir

    def refuse(path):
        if path.name == "team":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    for _ in range(2):
        snapshot = source.snapshot()
        assert (snapshot.objects, snapshot.unknown) == (before.objects, frozenset())
        assert snapshot.problems == ("team is not read: Permission denied",)
    (source.folder / "teams/c.yaml").unlink()
    assert names(source.snapshot()) == ["a", "b"]


def test_the_namespaces_of_the_settings_hold_for_manifests_too(tmp_path):
    source = ManifestSource(tmp_path, resources(), "app=prediction", ("a", "b"))
    put(source, "a.yaml", {"kind": "List", "items": [rayservice("x", "a"), rayservice("y", "c")]})
    put(source, "b.yaml", {"kind": "List", "items": [rayservice("z", "b", labels={}), service(CHAT)]})
    assert [str(rs.key) for rs in source.snapshot().of(RAYSERVICES)] == ["a/x"]
    assert source.summary() == (
        "1 RayServices (and 2 that the selector or the namespaces leave out) and 1 Services and 0 InferenceServices "
        "and 0 LLMInferenceServices in 2 files"
    )


TAGS = ["!!int ''", "!!float ''", "!!bool x", "!!timestamp x", "!!timestamp 2024-01-01", "!!null x", "!!binary '='",
        "!!int 1:30:00", "!!set {a}", "!!omap [a]", "!!int [a]", "!!str {a: b}", "!own x", "!!merge x",
        "!!float 1_", "!!int 0b_", "{<<: {a: b}}", "{!!merge x: {a: b}}", "{[a]: b, {c: d}: e}"]  # fmt: skip


@pytest.mark.parametrize("value", TAGS)
def test_a_value_that_does_not_fit_its_tag_is_one_files_fault(source, value):
    put(source, "bad.yaml", f"kind: Pod\nx: {value}\n")
    put(source, "good.yaml", CHAT)
    snapshot = source.snapshot()
    assert names(snapshot) == ["chat"]
    assert len(snapshot.problems) <= 1
    assert all(problem.startswith("bad.yaml is not read: ") for problem in snapshot.problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: !!int ''\n", "line 2, column 4: '' is no int"),
        ("a: &x {b: c}\nd:\n  <<: *x\n", "line 3, column 3: merge keys (<<) are not read: write the fields out"),
        ("kind: List\nitems: 5\n", "the items of a List are no list"),
        ("kind: RayServiceList\nitems: {a: b}\n", "the items of a RayServiceList are no list"),
        ("a: [\n", "line 2, column 1: "),
        ("a: 9" + "9" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_place(source, text, words):
    put(source, "a.yaml", text)
    (problem,) = source.snapshot().problems
    assert problem.startswith("a.yaml is not read: ")
    assert words in problem


def test_a_bomb_of_merge_keys_is_refused_at_its_first_level(source):
    lines = ["a0: &a0 {k: v}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 40)]
    put(source, "a.yaml", "\n".join(lines))
    (problem,) = source.snapshot().problems
    assert "line 2, column 10: merge keys" in problem


def test_numbers_to_the_base_of_60_and_times_are_texts_as_they_are_for_kubernetes(source):
    long = ":".join(["1"] + ["59"] * 200_000)
    (obj,) = objects(f"a: 1:30\nb: 1:30.5\nc: 2024-01-01\nd: 2024-13-45\ne: {long}\nf: =\n", is_json=False)
    assert obj == {"a": "1:30", "b": "1:30.5", "c": "2024-01-01", "d": "2024-13-45", "e": long, "f": "="}


def test_plain_words_mean_what_yaml_and_kubernetes_say():
    text = "a: true\nb: ~\nc:\nd: 0x1f\ne: -7\nf: 1.5\ng: .inf\nh: 'true'\ni: 1_000\nj: off\nk: 1e3x\nl: 08\nm: ''\n"
    (obj,) = objects(text, is_json=False)
    assert obj == {"a": True, "b": None, "c": None, "d": 31, "e": -7, "f": 1.5, "g": float("inf"), "h": "true",
                   "i": 1000, "j": False, "k": "1e3x", "l": "08", "m": ""}  # fmt: skip
    assert list(objects("{a: 0x_, b: 0b_}", is_json=False)) == [{"a": "0x_", "b": "0b_"}]


def test_json_is_read_as_json(source):
    (source.folder / "a.json").write_text(json.dumps(rayservice(annotations={"who": "\U0001f600"}), indent="\t"))
    (source.folder / "b.json").write_text('{"kind": "RayService",}')
    snapshot = source.snapshot()
    assert names(snapshot) == ["chat"]
    (problem,) = snapshot.problems
    assert problem.startswith("b.json is not read: ")


@settings(max_examples=times(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text("{}[]:,-!&*<>|?'\"#% \n\tab1.=~@`", max_size=60)
    | st.sampled_from(TAGS).map("{{kind: List, items: [{{x: {}}}]}}".format)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["kind", "items", "apiVersion", "metadata"]), inner, max_size=4)
        ),
    ).map(lambda value: json.dumps({"kind": "ServiceList", "items": value})),
    st.sampled_from(["yaml", "json"]),
)
def test_whatever_a_file_holds_the_others_are_read(tmp_path, text, suffix):
    source = ManifestSource(tmp_path, resources(), "app=prediction")
    put(source, "good.yaml", CHAT)
    for old in tmp_path.glob("bad.*"):
        old.unlink()
    put(source, f"bad.{suffix}", text)
    snapshot = source.snapshot()
    assert names(snapshot) == ["chat"]
    assert all(problem.startswith(f"bad.{suffix}") for problem in snapshot.problems)


def test_a_byte_order_mark_is_no_fault(source):
    for name in ("a.yaml", "b.json"):
        (source.folder / name).write_bytes(b"\xef\xbb\xbf" + json.dumps(rayservice(name[0])).encode())
    assert (names(source.snapshot()), source.snapshot().problems) == (["a", "b"], ())
