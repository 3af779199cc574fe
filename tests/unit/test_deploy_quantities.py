"""Quantities are written as Kubernetes writes them back, so that KubeRay's own edits change nothing."""

from __future__ import annotations

import pytest

from rayproxy.checkpoint.fields import canonical
from rayproxy.checkpoint.options import checked
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
