"""Match labels against a label selector, as the API server does, where no API server is asked.

The language is that of apimachinery's labels.Parse: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`,
`a>1`, `a<1`, joined by commas; `in` and `notin` are words like others where no operator can stand. What a
LabelSelector has in its own form is an `expression`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from rayproxy.dns_names import DNS_1123_SUBDOMAIN

Matcher = Callable[[Mapping[str, str]], bool]

MAX_WORD, MAX_PREFIX = 63, 253  # characters
MAX_NUMBER = 2**63
_TOKEN = re.compile(r"==|!=|[=!<>(),]|[^ \t\r\n=!<>(),]+")
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_NUMBER = re.compile(r"[+-]?[0-9]+")
_END = "the end"  # holds a space, as no word does
_SYMBOLS = frozenset({"==", "!=", "=", "!", "<", ">", "(", ")", ",", _END})
_EXAMPLES = "write it like app=prediction, app in (a, b), app!=test, app or !app"


def parse_selector(text: str) -> Matcher:
    """Return a function from labels to bool; raise ValueError on what the API server would not take."""
    tokens = _Tokens(text)
    terms: list[Matcher] = []
    try:
        if tokens.next != _END:
            terms.append(_requirement(tokens))
        while tokens.next != _END:
            tokens.take(",")
            terms.append(_requirement(tokens))
    except _SyntaxError as error:
        raise ValueError(f"{text!r} is not a label selector: {error}; {_EXAMPLES}") from None
    return lambda labels: all(term(labels) for term in terms)


def expression(key: str, operator: str, values: Collection[str]) -> Matcher:
    """Return what an expression of a LabelSelector means; raise ValueError on what the API server would not take."""
    _checked_key(key)
    if operator in ("Exists", "DoesNotExist"):
        if values:
            raise ValueError(f"{operator} takes no values")
        return _has(key) if operator == "Exists" else _lacks(key)
    if not values:
        raise ValueError(f"{operator} needs a list of values")
    wanted = frozenset(value and _checked_value(value) for value in values)
    return _is_in(key, wanted) if operator == "In" else _is_not_in(key, wanted)


class _SyntaxError(ValueError):
    pass


class _Tokens:
    """Hand out symbols and words one by one."""

    def __init__(self, text: str) -> None:
        self._rest: list[str] = [*_TOKEN.findall(text), _END][::-1]

    @property
    def next(self) -> str:
        return self._rest[-1]

    def take(self, *expected: str) -> str:
        """Take the next token, which must be one of these."""
        if self.next not in expected:
            raise _SyntaxError(f"{self._shown} stands where {' or '.join(map(repr, expected))} must")
        return self._rest.pop()

    def word(self, what: str) -> str:
        if self.next in _SYMBOLS:
            raise _SyntaxError(f"{self._shown} stands where {what} must")
        return self._rest.pop()

    @property
    def _shown(self) -> str:
        return self.next if self.next == _END else repr(self.next)


def _requirement(tokens: _Tokens) -> Matcher:
    absent = tokens.next == "!" and bool(tokens.take("!"))
    key = _checked_key(tokens.word("a label's key"))
    if absent:
        return _lacks(key)
    if tokens.next in (_END, ","):
        return _has(key)
    match tokens.take("=", "==", "!=", "in", "notin", "<", ">"):
        case "in":
            return _is_in(key, _values(tokens))
        case "notin":
            return _is_not_in(key, _values(tokens))
        case "!=":
            return _is_not_in(key, frozenset({_value(tokens)}))
        case "<" | ">" as operator:
            return _compare(key, operator, _value(tokens))
        case _:
            return _is_in(key, frozenset({_value(tokens)}))


def _has(key: str) -> Matcher:
    return lambda labels: key in labels


def _lacks(key: str) -> Matcher:
    return lambda labels: key not in labels


def _is_in(key: str, values: frozenset[str]) -> Matcher:
    return lambda labels: labels.get(key) in values


def _is_not_in(key: str, values: frozenset[str]) -> Matcher:
    return lambda labels: labels.get(key) not in values


def _compare(key: str, operator: str, value: str) -> Matcher:
    bound = _number(value)
    if bound is None:
        raise _SyntaxError(f"{value!r} after {operator!r} is not an integer of 64 bits")

    def matches(labels: Mapping[str, str]) -> bool:
        number = _number(labels.get(key, ""))
        return number is not None and (number > bound if operator == ">" else number < bound)

    return matches


def _number(text: str) -> int | None:
    if len(text) > MAX_WORD or not _NUMBER.fullmatch(text) or not -MAX_NUMBER <= int(text) < MAX_NUMBER:
        return None
    return int(text)


def _value(tokens: _Tokens) -> str:
    return "" if tokens.next in (_END, ",") else _checked_value(tokens.word("a label's value"))


def _values(tokens: _Tokens) -> frozenset[str]:
    """Read a list in brackets, in which a value may be missing: that is the empty one."""
    tokens.take("(")
    values = [""]
    commas = 0  # since the last value
    while tokens.next != ")":
        if tokens.next == ",":
            tokens.take(",")
            values.append("")
            commas += 1
        else:
            if values[-1]:
                tokens.take(",", ")")
            values[-1] = _checked_value(tokens.word("a label's value"))
            commas = 0
    if commas and commas % 2 == 0:  # apimachinery takes commas in pairs and then wants a value
        tokens.word("a label's value")
    tokens.take(")")
    return frozenset(values)


def _checked_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= MAX_PREFIX and DNS_1123_SUBDOMAIN.fullmatch(prefix)):
        raise _SyntaxError(f"the key {key!r} has a prefix that is no DNS subdomain")
    if not (len(name) <= MAX_WORD and _NAME.fullmatch(name)):
        raise _SyntaxError(f"the key {key!r} is none: {MAX_WORD} letters, digits, '-', '_' and '.' at most")
    return key


def _checked_value(value: str) -> str:
    if not (len(value) <= MAX_WORD and _NAME.fullmatch(value)):
        raise _SyntaxError(f"the value {value!r} is none: {MAX_WORD} letters, digits, '-', '_' and '.' at most")
    return value
