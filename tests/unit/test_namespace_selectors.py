"""Names that are granted by labels of namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.kinds.grants import Grants, Labels, resolve
from rayproxy.name_policy import NamePolicy
from rayproxy.policy_file import PolicyError, parse
from rayproxy.selector import expression, parse_selector
from rayproxy.sources.base import NotSyncedError
from rayproxy.sources.namespaces import MAX_LABELS, read_labels

BY_LABEL = "- {namespaceSelector: {matchLabels: {team: a}}, names: ['a-*']}\n"
BY_NAME = "- {namespaces: [old], names: [chat]}\n"
NAMESPACES: dict[str, Labels | None] = {
    "bare": {},
    "dev-b": {"team": "b", "stage": "dev"},
    "dev-c": {"team": "c", "stage": "dev"},
    "empty": {"team": ""},
    "hostile": None,  # has more labels than anybody looks at
    "prod-a": {"team": "a", "stage": "prod"},
}
EVERYONE = {*NAMESPACES, "not seen yet"}


class Known:
    """What is known of labels, by the test's word."""

    words = "/api/v1/namespaces: forbidden"
    problems: tuple[str, ...] = ("namespaces: a problem",)

    def __init__(self, labels: Mapping[str, Labels | None] | None = None) -> None:
        self.labels = labels
        self.needed: list[bool] = []
        self.looks = 0

    def need(self, *, needed: bool) -> None:
        self.needed.append(needed)

    def known(self) -> Mapping[str, Labels | None] | None:
        return self.labels

    def look(self) -> None:
        self.looks += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


def written(entry: str) -> str:
    """Return a policy of this entry, in which `by` is short for the selector."""
    return f"- {{names: [chat, 'x-*'], {entry.replace('by:', 'namespaceSelector:')}}}"


def granted(text: str) -> Grants:
    return resolve(parse(Path("policy.yaml"), text.encode(), labels=True), NAMESPACES)


@pytest.mark.parametrize(
    ("entry", "to"),
    [
        ("by: {matchLabels: {team: a}}", {"prod-a"}),
        ("by: {matchLabels: {team: ''}}", {"empty"}),
        ("by: {matchLabels: {team: b, stage: dev}}", {"dev-b"}),
        ("by: {matchLabels: {team: a, stage: dev}}", set()),
        ("by: {matchExpressions: [{key: team, operator: In, values: [a, b]}]}", {"prod-a", "dev-b"}),
        ("by: {matchExpressions: [{key: team, operator: NotIn, values: [a, b]}]}",
         {"bare", "dev-c", "empty"}),
        ("by: {matchExpressions: [{key: stage, operator: Exists}]}", {"dev-b", "dev-c", "prod-a"}),
        ("by: {matchExpressions: [{key: stage, operator: Exists, values: []}]}",
         {"dev-b", "dev-c", "prod-a"}),
        ("by: {matchExpressions: [{key: stage, operator: DoesNotExist}]}", {"bare", "empty"}),
        ("by: {matchLabels: {stage: dev}, matchExpressions: [{key: team, operator: NotIn, values: [b]}]}",
         {"dev-c"}),
        ("by: {}", EVERYONE),
        ("by: {matchLabels: {}, matchExpressions: []}", EVERYONE),
        ("namespaces: ['*'], by: {}", EVERYONE),
        ("namespaces: ['*'], by: {matchLabels: {stage: dev}}", {"dev-b", "dev-c"}),
        ("namespaces: ['prod-*', dev-c], by: {matchLabels: {stage: dev}}", {"dev-c"}),
        ("namespaces: [dev-b], by: {}", {"dev-b"}),
    ],
)  # fmt: skip
def test_an_entry_is_for_the_namespaces_that_kubernetes_would_select(entry: str, to: set[str]):
    grants = granted(written(entry))
    for name in ("chat", "x-1"):
        assert {namespace for namespace in EVERYONE if grants.allow(namespace, name)} == to
    assert not any(grants.allow(namespace, "chat2") for namespace in EVERYONE)


def test_entries_add_up_also_where_some_go_by_names_and_some_by_labels():
    grants = granted(BY_LABEL + BY_NAME + "- {namespaceSelector: {matchLabels: {stage: prod}}, names: [b]}")
    assert [name for name in ("a-1", "b", "chat") if grants.allow("prod-a", name)] == ["a-1", "b"]
    assert [name for name in ("a-1", "b", "chat") if grants.allow("old", name)] == ["chat"]
    assert not grants.allow("dev-b", "a-1")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("", "--0: it needs namespaces, a namespaceSelector, or both"),
        ("namespaces: [], by: {}", "--0.namespaces: List should have at least 1 item"),
        ("by: ", "--0.namespaceSelector: nothing where a mapping is wanted"),
        ("by: team=a", "--0.namespaceSelector: a text where a mapping is wanted"),
        ("by: {team: a}", "--0.namespaceSelector.team: there is no such option"),
        ("namespace_selector: {}, namespaces: [a]", "there is no such option"),
        ("by: {labels: {team: a}}", "--0.namespaceSelector.labels: there is no such option"),
        ("by: {matchLabels: }", "namespaceSelector.matchLabels: nothing where a mapping is wanted"),
        ("by: {matchLabels: {team: 1}}", "--0.namespaceSelector.matchLabels.team: a number where a text is wanted"),
        ("by: {matchLabels: {team: true}}", "a boolean where a text is wanted: write it in quotes"),
        ("by: {matchLabels: {1: a}}", "a number where a text is wanted: write it in quotes"),
        ("by: {matchLabels: {'a b': c}}", "matchLabels: the key 'a b' is none"),
        ("by: {matchLabels: {'/a': c}}", "the key '/a' has a prefix that is no DNS subdomain"),
        ("by: {matchLabels: {a: 'b,c'}}", "the value 'b,c' is none"),
        ("by: {matchLabels: {a: '*'}}", "the value '*' is none"),
        ("by: {matchLabels: {a: b}, matchLabels: {c: d}}", "the key 'matchLabels' stands here a second time"),
        ("by: {matchLabels: {a: b, 'a': c}}", "the key 'a' stands here a second time"),
        ("by: {}, by: {matchLabels: {a: b}}", "the key 'namespaceSelector' stands here a second time"),
        ("namespaces: [a], names: [b]", "line 1, column 43: the key 'names' stands here a second time"),
        ("by: {matchExpressions: {key: a}}", "matchExpressions: a mapping where a list is wanted"),
        ("by: {matchExpressions: [{operator: Exists}]}", "matchExpressions.0.key: Field required"),
        ("by: {matchExpressions: [{key: a}]}", "matchExpressions.0.operator: Field required"),
        ("by: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}", "'DoesNotExist'"),
        ("by: {matchExpressions: [{key: a, operator: in, values: [b]}]}", "0.operator: Input should be"),
        ("by: {matchExpressions: [{key: a, operator: In}]}", "0: In needs a list of values"),
        ("by: {matchExpressions: [{key: a, operator: NotIn, values: []}]}", "NotIn needs a list of values"),
        ("by: {matchExpressions: [{key: a, operator: In, values: b}]}", "values: a text where a list is wanted"),
        ("by: {matchExpressions: [{key: a, operator: In, values: [1]}]}", "values.0: a number where a text is wanted"),
        ("by: {matchExpressions: [{key: a, operator: In, values: ['b)']}]}", "the value 'b)' is none"),
        ("by: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}", "Exists takes no values"),
        ("by: {matchExpressions: [{key: '', operator: Exists}]}", "the key '' is none"),
        ("by: {matchExpressions: [{key: a, operator: Exists, value: b}]}", "there is no such option"),
    ],
)  # fmt: skip
def test_a_selector_that_kubernetes_would_not_take_is_refused_where_it_stands(path: Path, entry: str, words: str):
    path.write_text(BY_NAME)
    policy = NamePolicy(path, 0, Known(NAMESPACES))
    assert policy()[1] == ()
    path.write_text(written(entry))
    with pytest.raises(PolicyError, match=str(path)) as refused:
        NamePolicy(path, 0, Known())
    assert words in str(refused.value)
    grants, [problem] = policy()
    assert grants.allow("old", "chat")
    assert "the last good one is used" in problem


@given(
    st.sampled_from("ab"), st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    st.lists(st.sampled_from(["", "1", "2"]), max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from(["", "1", "2"])),
)  # fmt: skip
def test_an_expression_means_what_it_means_in_one_line(key: str, operator: str, values: list[str], labels: Labels):
    listed = f"({','.join(values)})"
    text = {"In": f"{key} in {listed}", "NotIn": f"{key} notin {listed}", "Exists": key, "DoesNotExist": f"!{key}"}
    if bool(values) is not operator.endswith("In"):
        with pytest.raises(ValueError, match=operator):
            expression(key, operator, values)
    else:
        assert expression(key, operator, values)(labels) is parse_selector(text[operator])(labels)


def test_a_namespace_with_more_labels_than_anybody_looks_at_has_none_that_match():
    many = {"metadata": {"name": "n", "labels": {f"l{number}": "" for number in range(MAX_LABELS + 1)}}}
    assert read_labels(many) is None
    del many["metadata"]["labels"]["l0"]  # type: ignore[attr-defined]
    assert len(read_labels(many) or ()) == MAX_LABELS
    assert read_labels({"metadata": {"name": "n", "labels": {"a": 1, "b": "c"}}}) == {"b": "c"}
    assert read_labels({"metadata": {"name": "n", "labels": 7}}) == {}


@pytest.mark.fault(166)
def test_before_the_labels_are_known_nothing_is_granted_and_nothing_denied(path: Path):
    path.write_text(BY_NAME + BY_LABEL)
    known = Known()
    policy = NamePolicy(path, 3, known)
    assert known.needed == [True], "before anybody asks what is granted: it is to be known by then"
    for _ in range(2):
        with pytest.raises(NotSyncedError, match=rf"{path} goes by labels .*\(/api/v1/namespaces: forbidden\)"):
            policy()
    known.labels = {}
    grants, problems = policy()
    assert not grants.allow("prod-a", "a-1"), "no namespace at all is an answer"
    assert (grants.most, problems) == (3, known.problems)
    known.labels = NAMESPACES
    assert policy()[0].allow("prod-a", "a-1")


@pytest.mark.fault(166)
def test_what_was_granted_before_is_until_the_labels_are_known(path: Path):
    path.write_text(BY_NAME)
    known = Known()
    policy = NamePolicy(path, 0, known)
    assert policy()[0].allow("old", "chat")
    assert known.needed == [False]
    path.write_text(BY_LABEL)
    for _ in range(2):
        grants, [problem] = policy()
        assert grants.allow("old", "chat")
        assert not grants.allow("prod-a", "a-1")
        assert str(path) in problem
        assert "forbidden" in problem
    assert known.needed == [False, True]
    path.write_text("{")
    assert len(policy()[1]) == 2, "a fault of the file is told besides"
    path.write_text(BY_LABEL)
    known.labels = NAMESPACES
    grants, problems = policy()
    assert problems == known.problems
    assert not grants.allow("old", "chat")
    assert grants.allow("prod-a", "a-1")
    path.write_text(BY_NAME)
    known.labels = None
    assert policy()[0].allow("old", "chat")
    assert known.needed == [False, True, False]


def test_a_change_of_labels_is_taken_and_nothing_is_worked_out_twice(path: Path):
    path.write_text(BY_LABEL)
    known = Known(NAMESPACES)
    policy = NamePolicy(path, 0, known)
    first, _ = policy()
    known.labels = dict(NAMESPACES)
    assert policy()[0] is first
    known.labels = NAMESPACES | {"prod-a": {"team": "b"}, "new": {"team": "a"}}
    grants, _ = policy()
    assert not grants.allow("prod-a", "a-1")
    assert grants.allow("new", "a-1")


class Counted(dict[str, str]):
    """Labels that count how often a selector looks at them."""

    looks = 0

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.looks += 1
        return super().get(key, default)


def test_a_change_of_labels_is_worked_out_for_those_namespaces_alone_that_have_others(path: Path):
    path.write_text(BY_LABEL + BY_NAME)
    same, relabelled, gone = Counted(team="a"), Counted(team="a"), Counted(team="a")
    known = Known({"same": same, "relabelled": relabelled, "gone": gone})
    policy = NamePolicy(path, 3, known)
    grants, _ = policy()
    assert all(grants.allow(namespace, "a-1") for namespace in ("same", "relabelled", "gone"))
    assert not grants.allow("new", "a-1")
    known.labels = {"same": same, "relabelled": {"team": "b"}, "new": {"team": "a"}}
    later, _ = policy()
    allowed = [namespace for namespace in ("same", "relabelled", "gone", "new") if later.allow(namespace, "a-1")]
    assert allowed == ["same", "new"]
    assert later.allow("old", "chat")
    assert later.most == 3
    assert [each.looks for each in (same, relabelled, gone)] == [1, 1, 1]
    assert grants.allow("relabelled", "a-1"), "what was granted before is another matter"
    path.write_text(BY_LABEL.replace("a-*", "b-*"))
    last, _ = policy()
    assert [last.allow("same", name) for name in ("a-1", "b-1")] == [False, True]


@pytest.mark.parametrize("entry", [BY_NAME, "- {namespaceSelector: {}, names: [chat]}\n"])
def test_labels_are_not_needed_where_no_entry_asks_for_one(path: Path, entry: str):
    path.write_text(entry)
    known = Known()
    policy = NamePolicy(path, 0, known)
    assert policy()[0].allow("old", "chat")
    policy.confirm()
    assert (known.needed, known.looks) == ([False], 0)
    assert NamePolicy(path, 0)()[0].allow("old", "chat"), "hence with manifests too"


def test_a_second_look_is_taken_at_labels_that_are_gone_by(path: Path):
    path.write_text(BY_LABEL)
    known = Known()
    policy = NamePolicy(path, 0, known)
    policy.confirm()
    assert known.looks == 0, "what is not known decides nothing, so that nothing waits for it"
    known.labels = NAMESPACES
    policy.confirm()
    assert known.looks == 1


def test_with_manifests_a_selector_is_refused_and_what_to_write_is_said(path: Path):
    path.write_text(BY_NAME + BY_LABEL)
    with pytest.raises(PolicyError, match=r"--1\.namespaceSelector: a folder of manifests says no labels"):
        NamePolicy(path, 0)
