"""The file that says which namespaces may have which names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayproxy.name_policy import NamePolicy
from rayproxy.policy_file import MAX_BYTES, PolicyError

GOOD = "- namespaces: [team-a]\n  names: [chat, 'a-*']\n"


def test_without_a_file_every_name_is_granted_to_everyone():
    grants, problems = NamePolicy(None, 3)()
    assert grants.allow("any", "name")
    assert (grants.most, problems) == (3, ())


def test_a_change_is_taken_and_an_empty_list_grants_nothing(tmp_path: Path):
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    policy = NamePolicy(path, 0)
    assert policy()[0].allow("team-a", "a-1")
    path.write_text(GOOD.replace("team-a", "team-b"))
    assert not policy()[0].allow("team-a", "a-1")
    assert policy()[0].allow("team-b", "a-1")
    path.write_text("[]")
    assert not policy()[0].allow("team-b", "a-1")


@pytest.mark.fault(139)
def test_a_name_that_yaml_takes_for_a_date_that_is_none_is_a_name(tmp_path: Path):
    path = tmp_path / "policy.yaml"
    path.write_text("- {namespaces: [2023-13-45], names: [a]}")
    assert NamePolicy(path, 0)()[0].allow("2023-13-45", "a")


@pytest.mark.fault(84)
@pytest.mark.fault(139)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing where a list is wanted"), ("{", "not YAML"),
        ("namespaces: [a]", "a mapping where a list is wanted"), ("- a", "--0: a text where a mapping is wanted"),
        ("- namespaces: [a]", "--0.names: Field required"), ("- {namespaces: [], names: [a]}", "at least 1 item"),
        ("- {namespaces: [a], names: [A]}", "--0.names.0: String should match pattern"),
        ("- {namespaces: [a], names: ['a/b']}", "String should match pattern"),
        ("- {namespaces: [a], names: ['a\\n']}", "String should match pattern"),
        ("- {namespaces: a, names: [a]}", "--0.namespaces: a text where a list is wanted"),
        ("- {namespaces: [a], names: [1]}", "--0.names.0: a number where a text is wanted: write it in quotes"),
        ("- {namespaces: [a], names: [a], labels: {}}", "there is no such option"),
        ("[" * 5000, "nest deeper"), ("- !!int ''", "not YAML: line 1, column 3: '' is no int"),
        ("[]\n---\n[]", "holds 2 documents"), ("# " + "x" * MAX_BYTES, "larger than"), (None, "cannot be read"),
    ],
)  # fmt: skip
def test_a_file_with_a_fault_is_refused_at_the_start_and_later_the_last_good_one_goes_on(
    tmp_path: Path, text: str | None, words: str
):
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    policy = NamePolicy(path, 0)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(PolicyError, match=str(path)) as refused:
        NamePolicy(path, 0)
    assert words in str(refused.value)
    grants, [problem] = policy()
    assert grants.allow("team-a", "chat")
    assert not grants.allow("team-b", "chat")
    assert "the last good one is used" in problem


ODD = ["0x_", "2024-02-30", "2024-01-01T00:00:00+99:99", "1:30", "!!timestamp x", "!!float ''", "!!bool x", "="]


@pytest.mark.fault(139)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(ODD).map("- {{namespaces: [team-a], names: [{}]}}".format).map(str.encode)
    | st.text("{}[]:,-!&*<>|?'\"#% \n\tab1.=~@`", max_size=60).map(str.encode)
    | st.binary(max_size=20)
)
def test_whatever_the_file_holds_is_a_policy_or_the_last_good_one_goes_on(tmp_path: Path, text: bytes):
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD)
    policy = NamePolicy(path, 0)
    path.write_bytes(text)
    grants, problems = policy()
    assert not grants.allow("team-b", "chat")
    assert problems == () or (grants.allow("team-a", "chat") and "the last good one is used" in problems[0])
