"""What a structural schema would drop or reject, and what of it is known beforehand."""

import copy
from pathlib import Path

import pytest
import yaml

from rayproxy.checkpoint import capabilities, schema
from rayproxy.checkpoint.refusal import RefusedError

CRDS = Path(__file__).parents[1] / "crds"
TODAY = yaml.safe_load((CRDS / "rayservices.yaml").read_text(encoding="utf-8"))
OLD = yaml.safe_load((CRDS / "rayservices-1.0.yaml").read_text(encoding="utf-8"))

INTEGER = {"type": "integer"}


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ({"type": "object", "properties": {"a": INTEGER}}, {"a": 1}, []),
        (
            {"type": "object", "properties": {"a": INTEGER}},
            {"a": 1, "b": 2},
            ["spec.b: unknown, and would be dropped without a word"],
        ),
        ({"type": "object"}, {"b": 2}, ["spec.b: unknown, and would be dropped without a word"]),
        ({"type": "object", "additionalProperties": INTEGER}, {"b": 2}, []),
        (
            {"type": "object", "additionalProperties": INTEGER},
            {"b": "2"},
            ["spec.b: '2' is not of type integer"],
        ),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, {"b": {"c": 2}}, []),
        ({"type": "object", "required": ["a"]}, {}, ["spec.a: required, and missing"]),
        (
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "default": 1}}},
            {},
            [],
        ),
        ({"type": "array", "items": INTEGER}, [1, "x"], ["spec[1]: 'x' is not of type integer"]),
        (INTEGER, True, ["spec: True is not of type integer"]),
        ({"type": "number"}, 0.5, []),
        (INTEGER, None, ["spec: null, where a value is required"]),
        ({"type": "integer", "nullable": True}, None, []),
        ({"type": "string", "enum": ["v1", "v2"]}, "v3", ["spec: 'v3' is none of v1, v2"]),
        ({"type": "string", "pattern": "^a+$"}, "b", ["spec: 'b' does not match ^a+$"]),
        ({"type": "string", "maxLength": 2}, "abc", ["spec: 'abc' is too short or too long"]),
        ({"type": "integer", "minimum": 0}, -1, ["spec: -1 is out of bounds"]),
        ({"x-kubernetes-int-or-string": True}, "10Gi", []),
        ({"x-kubernetes-int-or-string": True}, 1.5, ["spec: 1.5 is neither an integer nor a string"]),
    ],
)
def test_what_a_schema_does_not_take_is_named_with_its_place(spec, value, expected):
    document = {"apiVersion": "x/v1", "kind": "X", "metadata": {"anything": 1}, "spec": value}

    found = schema.violations({"type": "object", "properties": {"spec": spec}}, document)

    assert found == expected


def test_a_document_is_refused_with_each_field_that_would_be_lost():
    document = {"kind": "X", "spec": {"a": 1, "b": 2}}

    with pytest.raises(RefusedError) as refused:
        schema.require_kept({"properties": {"spec": {"type": "object"}}}, document)

    assert str(refused.value).splitlines()[1:] == [
        "  spec.a: unknown, and would be dropped without a word",
        "  spec.b: unknown, and would be dropped without a word",
    ]


def test_what_a_definition_has_is_what_its_release_has():
    assert capabilities.of_crd(TODAY) == capabilities.of_release("1.7.0")
    assert capabilities.of_crd(OLD) == capabilities.of_release("1.0.0")


def test_a_definition_that_says_nothing_of_the_autoscaler_is_taken_for_an_old_one():
    cut = copy.deepcopy(TODAY)
    del capabilities.rayservice_schema(cut)["properties"]["spec"]["properties"]["rayClusterConfig"]["properties"][
        "autoscalerOptions"
    ]

    assert capabilities.of_crd(TODAY).long_names
    assert not capabilities.of_crd(cut).long_names


@pytest.mark.parametrize(
    ("release", "field", "expected"),
    [
        ("1.0", "serve_config_v2", False),
        ("1.1.0", "serve_config_v2", True),
        ("1.2.2", "upgrade_strategy", False),
        ("1.3.0", "upgrade_strategy", True),
        ("1.3.0", "exclude_head", True),
        ("1.4.2", "deletion_delay", False),
        ("v1.5.0", "deletion_delay", True),
        ("1.5.0", "auth_options", False),
        ("1.5", "auth_options", True),
        ("2.0", "auth_options", True),
    ],
)
def test_a_release_has_the_fields_that_came_with_it_or_before(release, field, expected):
    assert getattr(capabilities.of_release(release), field) is expected


def test_a_definition_without_v1_is_refused():
    alpha = copy.deepcopy(TODAY)
    alpha["spec"]["versions"][0]["name"] = "v1alpha1"

    with pytest.raises(RefusedError, match="has v1alpha1 but no v1: KubeRay"):
        capabilities.of_crd(alpha)
