"""The command line: a file for each command, and the list of them."""

from __future__ import annotations

from rayproxy.cli.check import Check
from rayproxy.cli.init import Init
from rayproxy.cli.render import Render
from rayproxy.cli.routes import Routes
from rayproxy.cli.run import Run
from rayproxy.cli.serve import Serve, Unserve

COMMANDS: dict[str, type[Run | Render | Check | Routes | Init | Serve | Unserve]] = {
    "run": Run,
    "render": Render,
    "check": Check,
    "routes": Routes,
    "init": Init,
    "serve": Serve,
    "unserve": Unserve,
}
