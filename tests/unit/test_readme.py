"""The tables of the README and of docs/ say what the code does, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic.fields import FieldInfo

from rayproxy.checkpoint.last_applied import RECORD
from rayproxy.cli import COMMANDS
from rayproxy.kube.api import ApiError, GarbledError
from rayproxy.nginx.render import NginxConf, render
from rayproxy.nginx.templates import MAX_TEMPLATE_BYTES, VARIABLES, prefix
from rayproxy.policy_file import MAX_BYTES
from rayproxy.report.metrics import Metrics
from rayproxy.settings import MAX_HOLD, MAX_PATH, MAX_WAIT, NginxSettings, Settings
from rayproxy.sources.reflector import _reason, _StaleError

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "serving" / "README.md",
    ROOT / "SECURITY.md",
]
MISSPELT = {"RAYPROXY_WORKRS"}  # in docs/settings.md, on purpose


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """Return the names by which the headings of a page can be linked to."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_two_pages_and_leads_to_the_rest():
    assert len(page("README.md").splitlines()) < 250
    for path in PAGES[1:]:
        assert f"({path.relative_to(ROOT)})" in page("README.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_target_setting_and_file_that_a_page_names_is_there(path: Path):
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", page("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:^ +|`)make ([a-z][\w-]*)", text, re.MULTILINE)) <= targets
    named = {name for name in re.findall(r"\bRAYPROXY_\w*[A-Z]", text) if not name.startswith("RAYPROXY_TEST_")}
    assert named - MISSPELT <= {f"RAYPROXY_{name.upper()}" for name in Settings.model_fields}
    folders = "|".join(each.name for each in ROOT.iterdir() if each.is_dir() and each.name[0] != ".")
    for file in re.findall(rf"`((?:{folders})/[\w./-]*)`", text):
        assert file == RECORD or (ROOT / file).exists(), file


def test_every_setting_has_a_row_and_every_row_is_a_setting():
    names = {f"RAYPROXY_{name.upper()}" for name in Settings.model_fields} - {"RAYPROXY_KUBECONFIG"} | {"KUBECONFIG"}
    section = page("docs/settings.md").split("# Settings")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == names


BOUNDS = {MAX_WAIT: "24 days", MAX_HOLD: "30 days"}  # in seconds


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items(), ids=list(Settings.model_fields))
def test_the_row_of_a_setting_has_its_bounds(name: str, field: FieldInfo):
    low, high = (
        next((getattr(each, end) for each in field.metadata if hasattr(each, end)), 0) for end in ("ge", "le")
    )
    found = re.search(rf"^\| `RAYPROXY_{name.upper()}` .*", page("docs/settings.md"), re.MULTILINE)
    for bound in (low, high):
        assert bound < 2 or BOUNDS.get(bound, f"{bound:,}") in (found or [""])[0]


def test_the_bounds_of_files_and_paths_are_in_their_rows():
    text = page("docs/settings.md")
    for name, words in (
        ("NAME_POLICY", f"{MAX_BYTES // 1024} KiB at most"),
        ("TEMPLATE", f"{MAX_TEMPLATE_BYTES // 1024} KiB at most"),
        ("HIDDEN_PATHS", f"{MAX_PATH} characters each at most"),
    ):
        assert re.search(rf"^\| `RAYPROXY_{name}` .*{words}", text, re.MULTILINE), name


def test_every_variable_of_a_location_template_is_named():
    section = page("docs/settings.md").split("## A location template of your own")[1].split("\n## ")[0]
    assert set(re.findall(r"{{ (\w+) }}|{% if (\w+) %}", section)) == {
        ("", each) if each in ("StreamBody", "Trusted") else (each, "") for each in VARIABLES
    }


def test_every_metric_has_a_row_and_every_row_is_a_metric():
    registered = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Metrics(CollectorRegistry()).registry.collect()
    }
    section = page("docs/operating.md").split("## Metrics")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)", section, re.MULTILINE)) == registered


def test_every_reason_of_a_failed_watch_is_named_beside_its_metric():
    (row,) = re.findall(r"^\| `rayproxy_watch_failures.+", page("docs/operating.md"), re.MULTILINE)
    errors = [GarbledError("x"), _StaleError("x"), *(ApiError("x", status) for status in (0, *range(400, 600)))]
    assert {_reason(error) for error in errors} <= set(re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize(("row", "directives"), [
    ("the whole of a head; between two pieces of a body", ["client_header_timeout", "client_body_timeout"]),
    ("to be connected to a model", ["proxy_connect_timeout"]),
    ("a caller takes nothing of an answer", ["send_timeout"]),
])  # fmt: skip
def test_the_seconds_of_docs_http_md_are_those_of_nginx(row: str, directives: list[str]):
    conf = render([], prefix(), NginxConf(NginxSettings(), ("127.0.0.1:8080",), "/s/run"))["nginx.conf"].text
    seconds = [found for name in directives for found in re.findall(rf"^ +{name} (\d+)s;", conf, re.MULTILINE)]
    (said,) = re.findall(rf"^\| {row} \| ([^|]+) \|", page("docs/http.md"), re.MULTILINE)
    assert len(seconds) == len(directives)
    assert re.findall(r"(\d+) s", said)[: len(seconds)] == seconds


def test_every_error_type_of_the_proxy_is_in_a_table_of_docs_http_md():
    conf = render([], prefix(), NginxConf(NginxSettings(), ("127.0.0.1:8080",), "/s/run"))["nginx.conf"].text
    types = {each.replace("${kind}", "rayservice") for each in re.findall(r'"type":"([^"]+)"', conf)}
    others = {
        each for each in types if re.match("(inference|llminference)?service_", each)
    }  # in the words of each kind
    rows = re.findall(r"^\|.+\|$", page("docs/http.md").split("## Failures")[1].split("\n### ")[0], re.MULTILINE)
    assert "rayservice_pending" in types
    assert types - others == {word for row in rows for word in re.findall(r"`([a-z]+_[a-z_]+|forbidden)`", row)}


def test_every_command_has_a_row():
    section = page("README.md").split("## Commands")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `rayproxy (\w+)", section, re.MULTILINE)) == set(COMMANDS)


def test_what_security_md_says_is_shown_by_tests():
    rows = re.findall(r"^\| (.+) \| ([\d, ]+) \|$", page("SECURITY.md"), re.MULTILINE)
    shown = set(re.findall(r"^\| (\d+) \|", page("docs/faults.md"), re.MULTILINE))
    assert len(rows) > 10
    for what, numbers in rows:
        assert set(numbers.split(", ")) <= shown, what


def test_security_md_is_one_page():
    assert len(page("SECURITY.md").splitlines()) <= 70
