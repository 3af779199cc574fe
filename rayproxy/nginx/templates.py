"""Read the nginx templates: the project's own, and the operator's location template.

A location template is text with {{ Kind }}, {{ Name }}, {{ Namespace }}, {{ ClusterIP }} and {{ Port }} in it, and
{% if %} where wanted, such as {% if StreamBody %} and {% if Trusted %}; the dots of Go templates, {{ .Name }}, are
understood. Loops, filters, calls and everything else of jinja2 are refused when the template is read: so a bad
template is one clear error before anything is rendered, and none can run for ever or blow up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jinja2
from jinja2 import nodes

_PACKAGE = Path(__file__).parents[1]
FOLDER = next(path for path in (_PACKAGE / "_nginx", _PACKAGE.parent / "nginx") if path.is_dir())

PREFIX = "prefix"
BUILT_IN = {PREFIX: PREFIX, "regex": "regex", "documented": "regex"}  # the last one is an old name
VARIABLES = (
    "ClusterIP", "Host", "Kind", "Lighter", "Name", "Namespace", "Percent", "Port", "StreamBody", "Trusted",
)  # fmt: skip
MAX_TEMPLATE_BYTES = 64 * 1024

ANSWER_FIELDS = "include answer-fields.conf;"

# A list of a location replaces the server's: (directive, what brings the list back, what passes without it).
_LISTS = (
    (
        "proxy_set_header", ("credential-fields.conf;", "request-fields.conf;"),
        "callers' cookies and Authorization reach its models, trusted or not",
    ),
    (
        "proxy_hide_header", ("origin-fields.conf;",),
        "cookies, and whatever else a browser keeps for the front end's origin, come from its models, trusted or not",
    ),
)  # fmt: skip

_COMMENT = re.compile(r"#.*")
_TAG = re.compile(r"\{%.*?%\}")
_VARIABLE = re.compile(r"\{\{-?\s*(\w+)\s*-?\}\}")
_BLOCK = re.compile(r"\blocation\s+(?:[=~*^]+\s*)?(?P<path>[^\s{}]+)\s*\{|[{}]")
_ADD_HEADER = re.compile(r"\badd_header\b")
_GO_DOT = re.compile(r"(\{[{%]-?\s*(?:if\s+)?)\.([A-Z])")
_ALLOWED_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.If, nodes.CondExpr, nodes.Compare,
    nodes.Operand, nodes.Const, nodes.And, nodes.Or, nodes.Not,
)  # fmt: skip

_environment = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # noqa: S701 - jinja2 escapes for HTML only; values pass full-match checks instead
    keep_trailing_newline=True,
    trim_blocks=False,
)


class TemplateError(Exception):
    """Say what is wrong with a location template, and where."""


@dataclass(frozen=True)
class LocationTemplate:
    """Hold a checked location template; equal texts are equal templates."""

    name: str
    text: str

    @property
    def adds_redirect(self) -> bool:
        """Tell whether the slash-less path needs a location of its own: prefix locations redirect by themselves."""
        return self.name != PREFIX

    @property
    def gaps(self) -> Iterator[str]:
        """Yield what passes between callers and models that the proxy's own lists and paths would keep."""
        directives = _COMMENT.sub("", self.text)
        for directive, includes, passes in _LISTS:
            if re.search(rf"\b{directive}\b", directives) and not any(name in directives for name in includes):
                yield f"{directive} of its own, and not `include {includes[0]}` beside it: {passes}"
        for path in _paths(directives):
            if "/apis/" not in path and not path.startswith("@"):
                yield f"{path} is a path of its own, where RAYPROXY_HIDDEN_PATHS hides nothing: callers see it all"

    def knows(self, variable: str) -> bool:
        """Tell whether a variable makes a difference."""
        return variable in _variables(self.text)

    def render(self, values: dict[str, object]) -> str:
        """Return the location's text for one route; raise TemplateError, for a number compared with a text, say."""
        try:
            return _compiled(self.text).render(values)
        except Exception as error:
            raise TemplateError(f"the location template {self.name} fails for {values}: {error}") from error


def load_location(choice: str) -> LocationTemplate:
    """Load `prefix`, `regex` or a file; raise TemplateError that says what to mend."""
    path = FOLDER / f"ray-location.{BUILT_IN[choice]}.conf.j2" if choice in BUILT_IN else Path(choice)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_TEMPLATE_BYTES + 1)
    except OSError as error:
        raise TemplateError(f"the location template {path} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_TEMPLATE_BYTES:
        raise TemplateError(f"the location template {path} is larger than {MAX_TEMPLATE_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise TemplateError(f"the location template {path} is not UTF-8: {error.reason}") from error
    return check_location(BUILT_IN.get(choice, choice), text)


@lru_cache(maxsize=1)
def prefix() -> LocationTemplate:
    """Return the template that any route can have."""
    return load_location(PREFIX)


def check_location(name: str, text: str) -> LocationTemplate:
    """Return the template, or raise TemplateError with the line and the reason."""
    text = _GO_DOT.sub(r"\1\2", text)
    try:
        for node in _environment.parse(text).find_all(nodes.Node):
            _check_node(name, node)
        _compiled(text)  # only now: to compile is to compute what is constant, such as 10 ** 10 ** 10
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the location template {name}, line {error.lineno}: {error.message}") from error
    except (RecursionError, SyntaxError, MemoryError) as error:
        raise TemplateError(f"the location template {name} nests too deep") from error
    directives = _COMMENT.sub("", text)
    if not directives.strip():  # as each file is that a shell or an editor writes anew
        raise TemplateError(f"the location template {name} is empty")
    if _ADD_HEADER.search(directives) and ANSWER_FIELDS not in directives:
        raise TemplateError(
            f"the location template {name} has an add_header, with which nginx drops the fields that shut pages in: "
            f"write `{ANSWER_FIELDS}` beside it"
        )
    return LocationTemplate(name, text)


def _paths(directives: str) -> Iterator[str]:
    """Yield the path of each location that stands in no other one, with its variables by their names."""
    depth = 0
    for found in _BLOCK.finditer(_VARIABLE.sub(r"\1", _TAG.sub("", directives))):
        if found["path"] and depth == 0:
            yield found["path"]
        depth += -1 if found[0] == "}" else 1


def _check_node(name: str, node: nodes.Node) -> None:
    where = f"the location template {name}, line {node.lineno}"
    if isinstance(node, nodes.Name) and node.name not in VARIABLES:
        raise TemplateError(f"{where}: no variable {node.name}; there are {', '.join(VARIABLES)}")
    if not isinstance(node, _ALLOWED_NODES):
        raise TemplateError(
            f"{where}: {type(node).__name__.lower()} is not allowed; "
            "a location template has variables and {% if %} only"
        )


@lru_cache(maxsize=16)
def _variables(text: str) -> frozenset[str]:
    return frozenset(name.name for name in _environment.parse(text).find_all(nodes.Name))


@lru_cache(maxsize=16)
def _compiled(text: str) -> jinja2.Template:
    return _environment.from_string(text)


@lru_cache(maxsize=16)
def own(name: str) -> Callable[..., str]:
    """Return the render function of one of the project's own templates, such as nginx.conf.j2."""
    return _environment.from_string((FOLDER / name).read_text()).render
