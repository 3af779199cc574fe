"""Take out of an exchange what differs by chance: ports, the time of day, and the prefix where it is left on."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.differential.exchange import Seen
from tests.differential.wire import Fields, Message

FIXED = ("01 Jan 2026", "02 Jan 2026")  # the dates that the tables have
PREFIX = "/apis/rayservice/chat/"  # which a plain nginx, straight to the model, leaves on
_DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")


def masked(seen: Seen, ports: dict[str, str]) -> Seen:
    """Return the exchange with `ports`, {port: the name of what listens there}, and nginx's dates by their names."""
    own = re.compile(rf"\b({'|'.join(ports)})\b")

    def message(of: Message) -> Message:
        return replace(of, start=of.start.replace(PREFIX, "/", 1), fields=fields(of.fields))

    def fields(of: Fields) -> Fields:
        return tuple((name, value(own.sub(lambda found: ports[found[0]], text))) for name, text in of)

    def value(text: str) -> str:
        return _DATE.sub(lambda found: found[0] if found[0][5:16] in FIXED else "NOW", text)

    return replace(seen, requests=tuple(map(message, seen.requests)), answers=tuple(map(message, seen.answers)))
