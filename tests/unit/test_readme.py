"""The README's tables say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from rayproxy.cli import COMMANDS
from rayproxy.report.metrics import Metrics
from rayproxy.settings import Settings

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def test_every_setting_has_a_row_and_every_row_is_a_setting():
    names = {f"RAYPROXY_{name.upper()}" for name in Settings.model_fields} - {"RAYPROXY_KUBECONFIG"} | {"KUBECONFIG"}
    section = README.split("## Settings")[1].split("\n### ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == names


def test_every_metric_has_a_row_and_every_row_is_a_metric():
    registered = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Metrics(CollectorRegistry()).registry.collect()
    }
    section = README.split("## Metrics")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)", section, re.MULTILINE)) == registered


def test_every_command_has_a_row():
    section = README.split("## Commands")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `rayproxy (\w+)", section, re.MULTILINE)) == set(COMMANDS)
