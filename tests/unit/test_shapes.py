"""The shapes of manifests that people have: each has its right result, as files and as objects of a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayproxy.kinds import resources
from rayproxy.kinds.backend import Policy
from rayproxy.model import Decision, Route
from rayproxy.objects import labels_of
from rayproxy.sources.manifests import ManifestSource
from tests.support.deciding import decide
from tests.support.manifests import snapshot, target_of
from tests.support.shapes import NOT_ROUTED, ROUTED, ROUTED_FROM_FILES, Shape

ANYWHERE = [*ROUTED, *NOT_ROUTED]


def check(shape: Shape, decisions: list[Decision]) -> None:
    if not shape.kind:
        assert decisions == []
        return
    (decision,) = decisions
    assert type(decision).__name__ == shape.kind, decision
    if isinstance(decision, Route):
        assert str(target_of(decision)) == shape.says
    else:
        assert shape.says in decision.message


def by_name(shape: Shape) -> str:
    return shape.name


@pytest.mark.parametrize("suffix", ["yaml", "json"])
@pytest.mark.parametrize("shape", [*ANYWHERE, *ROUTED_FROM_FILES], ids=by_name)
def test_a_shape_in_files_has_its_right_result(tmp_path: Path, shape: Shape, suffix: str):
    for number, obj in enumerate(shape.objects):
        (tmp_path / f"{number}.{suffix}").write_text(json.dumps(obj))
    found = ManifestSource(tmp_path, resources(), "app=prediction").snapshot()
    assert found.problems == ()
    check(shape, decide(found, Policy(unowned=True)))


@pytest.mark.parametrize("shape", [each for each in ANYWHERE if each.name != "of another API group"], ids=by_name)
def test_a_shape_in_a_cluster_has_its_right_result(shape: Shape):
    rays = [obj for obj in shape.objects if obj["kind"] == "RayService" and labels_of(obj).get("app") == "prediction"]
    services = [obj for obj in shape.objects if obj["kind"] == "Service" and "ray.io/serve" in labels_of(obj)]
    check(shape, decide(snapshot(*rays, *services), Policy()))


def test_the_shapes_are_told_apart_by_name():
    names = [shape.name for shape in (*ANYWHERE, *ROUTED_FROM_FILES)]
    assert len(set(names)) == len(names) > 36
