"""The command line: a file for each command, and the list of them."""

from __future__ import annotations

from rayproxy.cli.check import Check
from rayproxy.cli.deploy import Deploy, Undeploy
from rayproxy.cli.init import Init
from rayproxy.cli.release import Release
from rayproxy.cli.render import Render
from rayproxy.cli.routes import Routes
from rayproxy.cli.run import Run

COMMANDS: dict[str, type[Run | Render | Check | Routes | Release | Init | Deploy | Undeploy]] = {
    "run": Run,
    "render": Render,
    "check": Check,
    "routes": Routes,
    "release": Release,
    "init": Init,
    "deploy": Deploy,
    "undeploy": Undeploy,
}

# What the last two were called first; scripts may still say so.
FORMER = {"serve": "deploy", "unserve": "undeploy"}
