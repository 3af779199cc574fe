"""Whatever the settings allow, nginx takes: a value that it refuses takes away each new route, or its start."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rayproxy import wiring
from rayproxy.nginx.render import empty
from rayproxy.settings import MAX_WAIT, NginxSettings, Settings
from tests.support.raw import NGINX

EDGES = {
    "workers": ("1", "256"),
    "worker_connections": ("64", "65535"),
    "worker_shutdown_timeout": ("1", str(MAX_WAIT)),
    "max_draining": ("1", "512"),
    "read_timeout": ("1", str(MAX_WAIT)),
    "max_body": ("1", "007k", "8796093022207m", "8589934591g", "9223372036854775807"),
    "stream_bodies": ("", "*", "a,b/c,d/*"),
    "trusted_pages": ("", "*", "a,b/c,d/*"),
    "hidden_paths": ("", "/-.~_", "/" + "-" * 254, ",".join(f"/{number}" for number in range(500))),
    "pass_authorization": ("true", "false"),
    "trusted_front_ends": ("", "0.0.0.0/0,::/0", "::ffff:10.0.0.0/104", "fd00::1,fd00::1,10.0.0.1,10.0.0.0/8"),
    "calls_per_caller": ("0", "1", "65535"),
    "access_log": ("true", "false"),
    "listen": ("1024", "65535", "[::]:8080", "127.0.0.1:08080"),
    "state_dir": ("../state/./a+@_-.b/",),
}


def test_every_setting_of_nginxs_has_its_edges_here():
    assert EDGES.keys() == NginxSettings.model_fields.keys() | {"listen", "state_dir"}


@pytest.mark.fault(148)
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, edges in EDGES.items() for value in edges])
def test_nginx_takes_each_setting_at_its_edges(folder: Path, name: str, value: str):
    own = {"state_dir": folder / value} if name == "state_dir" else {"state_dir": folder, name: value}
    settings = Settings.model_validate({"nginx_binary": NGINX, **own})
    candidate = wiring.make_revisions(settings).write(empty(wiring.nginx_conf(settings)), None)
    wiring.make_nginx(settings, threading.Event()).test(candidate.conf)
