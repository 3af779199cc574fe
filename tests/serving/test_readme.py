"""The tables of serving/README.md say what the code does."""

import re
from pathlib import Path

from llmserving.errors import TYPES, ApiError
from llmserving.metrics import COUNTERS, GAUGES, HISTOGRAMS

README = (Path(__file__).parents[2] / "serving/README.md").read_text(encoding="utf-8")


def test_every_metric_has_a_place_in_the_table_and_no_other_has():
    section = README.split("## Metrics")[1].split("\n## ")[0]
    names = {*(f"{name}_total" for name in COUNTERS), *HISTOGRAMS, *GAUGES}
    assert set(re.findall(r"`(serving_\w+)", section)) == names


def test_every_error_type_has_a_row_with_its_status():
    rows = {int(code): kind for code, kind in re.findall(r"^\| (\d+) \| `(.+?)` \|", README, re.MULTILINE)}
    assert rows == {code: ApiError(code, "").body()["error"]["type"] for code in TYPES}
