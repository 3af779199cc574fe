"""`rayproxy run`."""

from __future__ import annotations

from rayproxy import daemon
from rayproxy.settings import Settings


class Run(Settings):
    """Watch what is routed and keep nginx in step."""

    def main(self) -> int:
        """Run until a signal."""
        return daemon.run(self)
