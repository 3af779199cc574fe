"""What may become of a request's target, as small steps: RFC 3986 and RFC 9112, and what nginx is known to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import combinations

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_MUST = re.compile(r"[\x00-\x20\"#%<>?\\^`{|}\x7f-\xff]")  # what nginx escapes where it writes a path anew

Target = tuple[str, str]  # path, and the query with its mark
Step = Callable[[str, str], Target]


def _path(change: Callable[[str], str]) -> Step:
    return lambda path, query: (change(path), query)


def _decoded(wanted: Callable[[str], object]) -> Step:
    def change(found: re.Match[str]) -> str:
        char = chr(int(found[1], 16))
        return char if wanted(char) else found[0]

    return _path(lambda path: _ESCAPE.sub(change, path))


def without_dots(path: str) -> str:
    """RFC 3986, 5.2.4."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments):
        if segment == "..":
            kept = kept[:-1]
        if segment not in (".", ".."):
            kept.append(segment)
        elif number == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept)


STEPS: dict[str, Step] = {
    "the scheme and host of an absolute target end here": _path(lambda path: re.sub(r"^http://[^/]*", "", path)),
    "a fragment ends here": lambda path, query: (path.partition("#")[0], query.partition("#")[0]),
    "a `?` without a query is lost": lambda path, query: (path, query if query != "?" else ""),
    "an escape that needs none (`%7E`) is decoded": _decoded(_UNRESERVED.match),
    "an escaped delimiter (`%2F`, `%5B`) is decoded": _decoded(
        lambda char: not _UNRESERVED.match(char) and not _MUST.match(char)
    ),
    "every escape of the path is decoded": _decoded(lambda _: True),
    "what follows a line feed that was decoded is lost": _path(lambda path: path.partition("\n")[0]),
    "an escape's letters become capitals": _path(lambda path: _ESCAPE.sub(lambda found: found[0].upper(), path)),
    "dot segments are resolved": _path(lambda path: without_dots(path) if path.startswith("/") else path),
    "empty segments (`//`) are removed": _path(lambda path: re.sub(r"/+", "/", path)),
}
BROAD = ("every escape of the path is decoded", "what follows a line feed that was decoded is lost")  # the last resort


@lru_cache(maxsize=4096)
def explain(sent: str, seen: str) -> tuple[str, ...] | None:
    """Return the fewest steps that lead from one to the other, or None where no steps do."""
    found = _fewest([name for name in STEPS if name not in BROAD], sent, seen)
    return _fewest(list(STEPS), sent, seen) if found is None else found


def _fewest(steps: list[str], sent: str, seen: str) -> tuple[str, ...] | None:
    for count in range(len(steps) + 1):
        for names in combinations(steps, count):
            path, mark, query = sent.partition("?")
            target = (path, mark + query)
            for name in names:
                target = STEPS[name](*target)
            if "".join(target) == seen:
                return names
    return None
