"""`rayproxy init`."""

from __future__ import annotations

from rayproxy import wiring
from rayproxy.settings import Settings


class Init(Settings):
    """Write a first revision where there is none, so that nginx can start before the daemon."""

    def main(self) -> int:
        """Write it and say which it is."""
        print(wiring.first_revision(wiring.make_revisions(self), self).path)
        return 0
