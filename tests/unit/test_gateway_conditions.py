"""What is said of Gateways and HTTPRoutes: each rule as a golden case, and whatever else stands in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.gateway import conditions
from rayproxy.gateway.conditions import of_gateway
from rayproxy.gateway.form import differs
from rayproxy.gateway.objects import CONTROLLER, read_class, read_gateway, read_httproute
from rayproxy.objects import UnreadableError
from tests.support import gateways, tables

NAMES = (
    "metadata", "name", "namespace", "ownerReferences", "controller", "spec", "listeners", "parentRefs", "rules",
    "matches", "backendRefs", "status", "parents", "conditions", "controllerName", "managedFields", "port", "kind",
)  # fmt: skip
ROWS = tables.rows(conditions.__doc__)
by_name = pytest.mark.parametrize("case", gateways.CASES, ids=lambda case: case.name.removesuffix(".in.yaml"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.fault(122)
@by_name
def test_a_case_has_its_conditions(case: Path):
    assert gateways.out(case).read_text(encoding="utf-8") == gateways.conditions(case)


def test_each_row_of_the_tables_of_conditions_has_a_case():
    assert ROWS.keys() == {row for case in gateways.CASES for row in tables.shown(case)}


@by_name
def test_a_case_says_what_the_rows_of_the_tables_say_that_it_shows(case: Path):
    shown, said = tables.shown(case), gateways.out(case).read_text(encoding="utf-8")
    assert shown, "it shows no row: add `shows: [ROW]` to its first document"
    for row in shown:
        reason = re.search(r"False: (\w+)", ROWS[row])
        assert f": False {reason[1]}: " in said if reason else ": False" not in said, (ROWS[row], said)


def test_there_is_no_golden_file_of_conditions_without_a_case():
    assert set(gateways.FOLDER.glob("*.out.txt")) == set(map(gateways.out, gateways.CASES))


@pytest.mark.fault(122)
@given(JSON)
def test_whatever_stands_in_a_gateway_it_is_read_or_has_no_name(obj: Any):
    for read in (read_class, read_gateway, read_httproute):
        try:
            hash(read(obj))
        except UnreadableError:
            continue


@pytest.mark.fault(122)
@given(JSON)
def test_no_gateway_is_accepted_for_what_stands_in_its_spec_by_chance(spec: Any):
    owner = {"apiVersion": "ray.io/v1", "kind": "RayService", "name": "inc", "uid": "u", "controller": True}
    obj = {"metadata": {"name": "inc-gateway", "ownerReferences": [owner]}, "spec": spec}
    accepted, programmed = of_gateway(read_gateway(obj), {}, lambda _: "")
    assert (accepted.status, programmed.status) == (False, False)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"port": 80}, ""),
        ({"port": 80, "name": "http"}, ""),
        ({"port": 80, "hostname": ""}, ""),
        ({"port": 80, "tls": {"mode": "Terminate"}}, "it.tls is set"),
        ({"port": True}, "it.port is True and not 80"),
        ({"port": "80"}, "it.port is '80' and not 80"),
        ({}, "it.port is missing"),
        (None, "it is missing"),
        ([80], "it is a list"),
    ],
)
def test_the_first_difference_from_a_form_is_named(found: Any, said: str):
    assert differs(found, {"port": 80, "name?": "http"}, "it") == said


def test_what_other_controllers_said_of_an_httproute_is_kept_and_not_taken_for_ones_own():
    parents = [
        {"parentRef": {"name": "a"}, "controllerName": "istio.io/gateway-controller", "conditions": []},
        {"parentRef": {"name": "b"}, "controllerName": CONTROLLER, "conditions": []},
    ]
    found = read_httproute({"metadata": {"name": "x"}, "status": {"parents": parents}})
    istios, own = found.told
    assert (istios.by_proxy, "istio" in istios.entry) == (False, True)
    assert (own.by_proxy, own.parent.ref) == (True, '{"name": "b"}')
    assert conditions.kept(found, {}, "rayproxy") == [istios]
