"""What tells one happening from the next that says the same, in a way that replicas agree on without a word.

An Event that is written a second time under its name is refused, which is how replicas write each once. So its name
holds the span of the clock that it happens in, and which one it is of those in that span that say the same: each
replica counts for itself, and who saw the same has the same number. Two that see it on either side of a span's end
write it twice; and all replicas must have been started anew within a span for one to be taken for an earlier one.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter

SPAN = 600  # s; long beside what replicas see apart, short beside what lies between two restarts
REPEAT = 3000  # s; an API server forgets an Event after an hour
MOST = 100_000  # different things that are counted in a span


class Happenings:
    """Give what happens a name; the time, in s since 1970, comes from whoever asks."""

    def __init__(self) -> None:
        self._span = 0
        self._times: Counter[bytes] = Counter()

    def name(self, says: str, now: float) -> str:
        """Return 16 characters that name what happens now, and count it."""
        span, digest = int(now // SPAN), hashlib.sha256(says.encode(errors="replace")).digest()
        if span != self._span or len(self._times) >= MOST:
            self._span, self._times = span, Counter()
        self._times[digest] += 1
        return hashlib.sha256(digest + f"{span} {self._times[digest]}".encode()).hexdigest()[:16]


def is_due(uid: str, last: float, now: float) -> bool:
    """Tell whether what lasts is told again between two moments: of each object at another time, by all replicas."""
    phase = zlib.crc32(uid.encode(errors="replace")) % REPEAT
    return (last + phase) // REPEAT < (now + phase) // REPEAT
