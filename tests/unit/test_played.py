"""What is said of a RayService while KubeRay upgrades it, or loses its pods, as it really happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import played


@pytest.mark.fault(101)
@pytest.mark.parametrize("recording", played.RECORDED, ids=lambda path: path.stem)
def test_what_was_recorded_is_told_in_these_words(recording: Path):
    assert played.golden(recording).read_text(encoding="utf-8") == played.told(recording), "make golden writes it anew"
