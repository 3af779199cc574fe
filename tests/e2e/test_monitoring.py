"""The alerts and the dashboard: only metrics that exist, and alerts that fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter
from rayproxy.report.status import STATES
from rayproxy.sources.base import NotSyncedError
from tests.support import deploy

MONITORING = deploy.ROOT / "deploy/monitoring"
NAME = re.compile(r"\brayproxy_[a-z_]+")


@pytest.fixture(scope="module")
def exposed() -> set[str]:
    """Return the name of every series that the daemon can expose."""
    registry = CollectorRegistry()
    Metrics(registry)
    names = set()
    for metric in registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
        names |= {metric.name + suffix for suffix in suffixes}
    return names


def rules() -> list[dict]:
    loaded = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    return [rule for group in loaded["spec"]["groups"] for rule in group["rules"]]


def dashboard() -> dict:
    return json.loads((MONITORING / "dashboard.json").read_text())


def test_every_alert_asks_for_metrics_that_exist(exposed: set[str]):
    for rule in rules():
        used = set(NAME.findall(rule["expr"]))
        assert used, rule["alert"]
        assert used <= exposed, rule["alert"]


def test_every_panel_shows_metrics_that_exist(exposed: set[str]):
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    queries += [each["query"] for each in dashboard()["templating"]["list"] if each["type"] == "query"]
    for query in queries:
        used = set(NAME.findall(query))
        assert used, query
        assert used <= exposed, query


def test_every_metric_is_on_the_dashboard(exposed: set[str]):
    shown = set(NAME.findall(json.dumps(dashboard())))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed}
    assert {name for name in families if not any(each.startswith(name) for each in shown)} == set()


def test_every_state_of_a_rayservice_is_on_the_dashboard():
    shown = set(re.findall(r'state=\\"([a-z]+)\\"', json.dumps(dashboard())))
    assert set(STATES) <= shown


def test_the_panels_do_not_overlap():
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))


def test_an_overlay_takes_the_monitoring_in(tmp_path: Path):
    own = tmp_path / "deploy"
    shutil.copytree(deploy.ROOT / "deploy", own)
    kustomization = own / "overlays/all-namespaces/kustomization.yaml"
    kustomization.write_text(kustomization.read_text() + "components:\n  - ../../monitoring\n")
    manifests = deploy.render(str(own))
    monitor = deploy.one(manifests, "ServiceMonitor")
    service = deploy.one(manifests, "Service", "rayproxy-metrics")
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    other = deploy.one(manifests, "Service")
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= other["metadata"]["labels"].items()
    assert json.loads(deploy.one(manifests, "ConfigMap", "rayproxy-dashboard")["data"]["rayproxy.json"]) == dashboard()


POD = 'namespace="rayproxy",pod="a"'
FIRING = {
    "RayproxyDown": {},
    "RayproxyReloadFailed": {f"rayproxy_config_last_reload_successful{{{POD}}}": "0x60"},
    "RayproxyNginxWithoutWorkers": {f'rayproxy_nginx_workers{{{POD},state="serving"}}': "0x60"},
    "RayproxySourceSilent": {f'rayproxy_source_last_contact_timestamp_seconds{{{POD},resource="services"}}': "60x60"},
    "RayproxySourceFailing": {
        f'rayproxy_watch_failures_total{{{POD},resource="services",reason="forbidden"}}': "0+1x60"
    },
    "RayproxyRouteRejected": {f'rayproxy_routes{{{POD},state="rejected"}}': "1x60"},
    "RayproxyRoutePendingTooLong": {f"rayproxy_pending_longest_seconds{{{POD}}}": "1860x60"},
    "RayproxyRouteUnavailable": {f'rayproxy_route_ready_endpoints{{{POD},route="rayservice/ml/chat"}}': "0x60"},
    "RayproxyProblems": {f"rayproxy_source_problems{{{POD}}}": "1x60"},
    "RayproxyWorkersPileUp": {
        f'rayproxy_nginx_workers{{{POD},state="serving"}}': "2x60",
        f'rayproxy_nginx_workers{{{POD},state="draining"}}': "9x60",
    },
    "RayproxyChangesWait": {f"rayproxy_changes_wait{{{POD}}}": "1x60"},
    "RayproxyReplicasDisagree": {
        f'rayproxy_routes{{{POD},state="accepted"}}': "5x60",
        'rayproxy_routes{namespace="rayproxy",pod="b",state="accepted"}': "4x60",
    },
}
CALM = {
    f"rayproxy_config_last_reload_successful{{{POD}}}": "1x60",
    f'rayproxy_nginx_workers{{{POD},state="serving"}}': "2x60",
    f'rayproxy_nginx_workers{{{POD},state="draining"}}': "2x60",
    f'rayproxy_source_last_contact_timestamp_seconds{{{POD},resource="services"}}': "0+60x60",
    f'rayproxy_watch_failures_total{{{POD},resource="services",reason="forbidden"}}': "1x60",
    f'rayproxy_routes{{{POD},state="rejected"}}': "0x60",
    f'rayproxy_routes{{{POD},state="suspended"}}': "3x60",  # wished so
    f'rayproxy_routes{{{POD},state="refused"}}': "3x60",  # KubeRay's to tell
    f'rayproxy_routes{{{POD},state="accepted"}}': "5x60",
    'rayproxy_routes{namespace="rayproxy",pod="b",state="accepted"}': "5x60",
    f"rayproxy_pending_longest_seconds{{{POD}}}": "60x60",
    f"rayproxy_source_problems{{{POD}}}": "0x60",
    f"rayproxy_changes_wait{{{POD}}}": "0x60",
    f'rayproxy_route_ready_endpoints{{{POD},route="rayservice/ml/chat"}}': "1 0 0 1 2x57",  # an upgrade
}


needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="no promtool: `make test-e2e` installs it with Prometheus"
)


@needs_promtool
def test_each_alert_fires_when_it_should_and_none_when_all_is_well(tmp_path: Path):
    assert set(FIRING) == {rule["alert"] for rule in rules()}
    fires = [_fires(name, series) for name, series in FIRING.items()]
    _hold(tmp_path, *fires, _query(CALM, "count(ALERTS) or vector(0)", [{"labels": "{}", "value": 0}]))


@needs_promtool
@pytest.mark.fault(137)
def test_an_api_server_that_is_away_from_the_start_on_is_the_alert_and_nginx_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    registry = CollectorRegistry()
    reporter = Reporter(Metrics(registry), tmp_path / "status.json", lambda _: None, 600.0)
    reporter.failure("services", "unreachable", "connection refused")
    reporter.failed(NotSyncedError("no whole list yet of /api/v1/services (unsynced)"))
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    series = {f"{each.name}{{{_labels(each.labels)}}}": f"{each.value}x60" for each in samples}
    expected = [
        {"labels": f'{{alertname="{name}"}}', "value": 1} for name in ("RayproxyProblems", "RayproxySourceSilent")
    ]
    _hold(tmp_path, _query(series, 'group by (alertname) (ALERTS{alertstate="firing"})', expected))


def _labels(labels: dict[str, str]) -> str:
    return ",".join([POD, *(f'{name}="{value}"' for name, value in labels.items())])


def _hold(tmp_path: Path, *tests: dict) -> None:
    spec = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": list(tests)})
    )
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def _fires(name: str, series: dict[str, str]) -> dict:
    query = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    return _query(series, query, [{"labels": "{}", "value": 1}])


def _query(series: dict[str, str], query: str, expected: list[dict]) -> dict:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "50m", "exp_samples": expected}],
    }
