"""Compare the files that are live with those that are desired. Pure, and ignorant of what they hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

# current has it | desired has it | digests | the plan says
# no             | yes            |         | create
# yes            | yes            | differ  | update
# yes            | yes            | equal   | nothing
# yes            | no             |         | delete


@dataclass(frozen=True, slots=True)
class Changes:
    """Hold the file names that differ, each sorted."""

    create: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)

    @property
    def names(self) -> tuple[str, ...]:
        """Return all of them: deletions first, since they can only make room."""
        return self.delete + self.update + self.create


def plan(current: Mapping[str, str], desired: Mapping[str, str]) -> Changes:
    """Return the changes that lead from `current` to `desired`, both {file name: digest}."""
    return Changes(
        create=tuple(sorted(desired.keys() - current.keys())),
        update=tuple(sorted(name for name in desired.keys() & current.keys() if desired[name] != current[name])),
        delete=tuple(sorted(current.keys() - desired.keys())),
    )


# A list that comes back empty or halved is more often a fault than a wish.
BRAKE_SHARE = 0.5
BRAKE_COUNT = 3


def vanishes_at_once(routes: Collection[str], changes: Changes) -> bool:
    """Tell whether so many of the live routes go at once that a second list must confirm it; `routes` are files."""
    gone = len(set(changes.delete).intersection(routes))
    return gone > BRAKE_COUNT and gone > len(routes) * BRAKE_SHARE
