"""Quantities are written as Kubernetes writes them back, so that KubeRay's own edits change nothing."""

from __future__ import annotations

import pytest

from rayproxy.checkpoint.fields import canonical
from rayproxy.checkpoint.options import checked, from_values
from rayproxy.checkpoint.refusal import RefusedError
from tests.support.quantities import WRITTEN_BACK


@pytest.mark.parametrize(("given", "written"), WRITTEN_BACK.items())
def test_a_quantity_is_written_as_kubernetes_writes_it_back(given: str, written: str):
    assert canonical(given) == written
    assert canonical(written) == written


def test_an_option_takes_any_form_and_holds_that_one():
    options = checked({"cpu": "2000m", "memory": "1024Mi", "head_cpu": "0.5"})
    assert (options.cpu, options.memory, options.head_cpu) == ("2", "1Gi", "500m")


@pytest.mark.parametrize("bad", ["", "1.", "1ki", "1Km", "-1", "1e3", "1 Gi", "9" * 40])
def test_what_is_no_quantity_is_refused(bad: str):
    with pytest.raises(RefusedError, match="is not a quantity"):
        checked({"cpu": bad})


@pytest.mark.parametrize(
    ("written", "held"),
    {"2": "2", "1.5": "1500m", "0.5": "500m", ".5": "500m", "24.5": "24500m", "4.0": "4", "1.5e+3": "1500"}.items(),
)
def test_a_quantity_may_stand_without_quotes_in_a_values_file(written: str, held: str):
    options = from_values(f"cpu: {written}\nmemory: {written}\nhead-cpu: {written}", "values.yaml")
    assert (options.cpu, options.memory, options.head_cpu) == (held, held, held)


def test_a_small_number_is_spelled_without_an_exponent():
    assert checked({"cpu": 1e-7}).cpu == checked({"cpu": "0.0000001"}).cpu


@pytest.mark.parametrize("bad", ["true", ".inf", "-.inf", ".nan", "-1.5", "1.0e+20"])
def test_a_plain_word_of_yaml_that_is_no_quantity_is_refused_as_none(bad: str):
    with pytest.raises(RefusedError, match=r"--cpu: '[-\w.]+' is not a quantity, such as 6, 500m or 24Gi"):
        from_values(f"cpu: {bad}", "values.yaml")
