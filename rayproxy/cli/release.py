"""`rayproxy release`."""

from __future__ import annotations

from pydantic_settings import CliPositionalArg

from rayproxy.cli.claims import open_claims
from rayproxy.cli.errors import CommandError
from rayproxy.kinds.claims import Claim, Name
from rayproxy.ledger.base import Found
from rayproxy.ledger.entries import Change
from rayproxy.settings import Settings


class Release(Settings):
    """Let go of a name that is held for a namespace, so that another one may have it; for all replicas."""

    name: CliPositionalArg[str]
    """the name, as it stands in the path"""
    kind: str | None = None
    """rayservice or another kind (default: each that holds the name)"""

    def main(self) -> int:
        """Release it."""
        look = open_claims(self)
        held = self._held(look({}))
        if not held:
            raise CommandError(f"no namespace holds the name {self.name}: `rayproxy routes --held` lists what is held")
        look({name: Change(claim, None) for name, claim in held.items()})
        for (kind, name), claim in held.items():
            print(f"{kind} {name} is no longer held for {claim.namespace}; an object that has a route keeps its name")
        return 0

    def _held(self, found: Found) -> dict[Name, Claim]:
        return {
            name: claim
            for name, claim in found.claims.items()
            if name[1] == self.name and self.kind in (None, name[0])
        }
