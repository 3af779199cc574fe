"""Compare an object with the one form that is taken, so that what nobody thought of is refused by name. Pure."""

from __future__ import annotations

ANY = object()
SHOWN = 60  # characters of another's value
EMPTY: tuple[object, ...] = (None, "", [], {})


def differs(found: object, form: object, where: str) -> str:
    """Return the first difference in words, "" where there is none.

    A form is a value, a list of as many forms, or {name: form}, where a name with a ? may be missing.
    """
    if form is ANY:
        return ""
    if isinstance(form, dict):
        return _of_fields(found, form, where)
    if isinstance(form, list):
        return _of_list(found, form, where)
    return "" if found == form and type(found) is type(form) else f"{where} is {_shown(found)} and not {form!r}"


def _of_fields(found: object, form: dict[str, object], where: str) -> str:
    if not isinstance(found, dict):
        return f"{where} is {_shown(found)}"
    known = {name.rstrip("?"): each for name, each in form.items()}
    more = (
        f"{where}.{_name(name)} is set" for name, value in found.items() if name not in known and value not in EMPTY
    )
    missing = (f"{where}.{name} is missing" for name in form if not name.endswith("?") and name not in found)
    deeper = (differs(value, known[name], f"{where}.{name}") for name, value in found.items() if name in known)
    return next(filter(None, (*more, *missing, *deeper)), "")


def _of_list(found: object, form: list[object], where: str) -> str:
    if not isinstance(found, list):
        return f"{where} is {_shown(found)}"
    if len(found) != len(form):
        return f"{where} has {len(found)} entries and not {len(form)}"
    pairs = enumerate(zip(found, form, strict=True))
    return next(filter(None, (differs(*pair, f"{where}[{number}]") for number, pair in pairs)), "")


def _name(name: object) -> str:
    return str(name)[:SHOWN]


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, str | int | float):
        return repr(value)[:SHOWN]
    return "a list" if isinstance(value, list) else "an object"
