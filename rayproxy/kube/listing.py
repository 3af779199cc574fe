"""Read a list of Kubernetes objects while it arrives: one object is held at a time, whatever the whole is. Pure.

The standard decoder does the parsing; what is here finds where each object of `items` begins. A page of small
objects and a page of 500 objects of 1.5 MB each take the same memory.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

PIECE = 2 << 20  # characters to gather before a value that did not end is tried again: more than etcd stores in one
LARGEST = 32 << 20  # characters of one value; etcd takes 1.5 MB by default
WHITE = " \t\r\n"
GOES_ON = ("", ".", "e", "E")  # what may stand behind a part of a number: 1, 1. and 1.5e+ are parts of 1.5e+1

_decode = json.JSONDecoder().raw_decode
# A text may not be all there yet: what is in it is no bracket all the same.
_BRACKET_OR_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[][{}]', re.DOTALL)


class Listing:
    """The objects of one page, to be iterated over once; `metadata` is the list's own, there at the end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.metadata: dict[str, Any] = {}
        self._text = _Text(chunks)

    def __iter__(self) -> Iterator[object]:
        """Yield each element of `items`; raise ValueError where this is no list, or ends too early."""
        text, seen = self._text, set[object]()
        text.expect("{")
        more = True
        while more:
            name = text.value()
            if not isinstance(name, str):
                raise ValueError(f"the name of a member is {name!r:.40}")  # noqa: TRY004 - of what came
            text.expect(":")
            if name in seen and name in ("items", "metadata"):
                raise ValueError(f"{name} is there twice")
            seen.add(name)
            if name == "items":
                yield from self._items()
            else:
                self._take(name, text.value())
            more = text.took(",")
        text.expect("}")
        text.end()
        if not {"items", "metadata"} <= seen:
            raise ValueError("it has no items or no metadata")

    def _items(self) -> Iterator[object]:
        text = self._text
        if text.took_null():  # Go's way to write a list that was never made
            return
        text.expect("[")
        if text.took("]"):
            return
        yield text.value()
        while text.took(","):
            yield text.value()
        text.expect("]")

    def _take(self, name: object, value: object) -> None:
        if name != "metadata":
            return
        if not isinstance(value, dict):
            raise ValueError("its metadata is not an object")  # noqa: TRY004 - of what came, not of our own types
        self.metadata = value


class _Text:
    """Text that arrives in pieces; what was read is dropped when the next piece comes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._place = 0
        self._ended = False

    def expect(self, char: str) -> None:
        if not self.took(char):
            raise ValueError(f"{char} is missing before {self._text[self._place : self._place + 40]!r}")

    def took(self, char: str) -> bool:
        """Step over the character if it comes next, and tell whether it did."""
        if self._next() != char:
            return False
        self._place += 1
        return True

    def took_null(self) -> bool:
        """Step over `null` if it comes next, and tell whether it did."""
        return self._next() == "n" and self.value() is None

    def end(self) -> None:
        if self._next():
            raise ValueError("something follows the list")

    def value(self) -> Any:  # noqa: ANN401 - JSON
        """Return the next value; raise ValueError where there is none."""
        self._next()
        wanted = 0
        while True:
            try:
                value, end = _decoded(self._text, self._place)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            else:
                if self._ended or self._text[end : end + 1] not in GOES_ON:
                    self._place = end
                    return value
            # Twice as much each time, so that all tries together read no more than twice what came.
            wanted = max(PIECE, 2 * wanted)
            if wanted > LARGEST:
                raise ValueError(f"one value has more than {LARGEST // 2} characters")
            self._gather(wanted)

    def _next(self) -> str:
        """Return the next character that is no white space, "" at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in WHITE:
                self._place += 1
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._gather(1)

    def _gather(self, wanted: int) -> None:
        """Let at least `wanted` characters stand from the place on, or all that there are."""
        pieces = [self._text[self._place :]]
        size = len(pieces[0])
        while size < wanted and not self._ended:
            chunk = next(self._chunks, b"")
            pieces.append(self._utf8.decode(chunk, final=not chunk))
            size += len(pieces[-1])
            self._ended = not chunk
        self._text, self._place = "".join(pieces), 0


def _decoded(text: str, place: int) -> tuple[Any, int]:
    """Return the value there, and where it ends; None for one that nests too deep, since others wait behind it.

    Where a CRD keeps what it does not know, any tenant can make one, and the API server takes it.
    """
    try:
        return _decode(text, place)
    except RecursionError:
        return None, _end(text, place)


def _end(text: str, place: int) -> int:
    """Return where the list or mapping ends that begins there; raise JSONDecodeError where that has not come."""
    depth = 0
    for found in _BRACKET_OR_TEXT.finditer(text, place):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    raise json.JSONDecodeError("nothing ends what nests so deep", text, place)
