"""Every setting: one declaration is the flag, the environment variable, its check and its line in --help.

The only module that reads the environment.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rayproxy.dns_names import DNS_1035_LABEL, DNS_1123_LABEL, DNS_1123_SUBDOMAIN, MAX_NAME
from rayproxy.listen import parse_listen
from rayproxy.selector import parse_selector

IN_CLUSTER = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
MAX_SOCKET_PATH = 107  # bytes, sun_path of unix(7)
MAX_HOLD = 30 * 86400  # s
MAX_WAIT = 2**31 // 1000  # s, as many milliseconds as nginx sleeps at a time
MAX_CALLS = 65_535  # that nginx counts, of a worker or of an address
MAX_DRAINING = 512  # with 256 workers that serve, and as many in a reload, all the processes that nginx may have
MAX_OFFSET = 2**63 - 1  # bytes
MAX_PATH = 255  # characters, whose expression is within the 4 kB that nginx reads of one
SIMILAR = 0.85  # of a variable to a setting, so that the one is taken for the other misspelt

KNATIVE_GATEWAYS = ("istio-system/knative-local-gateway", "kourier-system/kourier-internal")  # of Istio, of Kourier

_SIZE = re.compile(r"([0-9]{1,19})([kKmMgG]?)")
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}  # bytes
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+/?")


def _default_state() -> Path:
    if IN_CLUSTER:
        return Path("/var/lib/rayproxy")
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base) / "rayproxy" if base else Path.home() / ".local/state/rayproxy"


def _is_object(name: str) -> bool:
    """Tell whether most kinds of objects may have such a name."""
    return len(name) <= MAX_NAME and DNS_1123_SUBDOMAIN.fullmatch(name) is not None


def _names(text: str, good: Callable[[str], object]) -> bool:
    """Tell whether a text is NAME or NAMESPACE/NAME, with a good name."""
    namespace, slash, name = text.rpartition("/")
    return bool(good(name)) and (not slash or DNS_1123_LABEL.fullmatch(namespace) is not None)


def _listed(value: object) -> object:
    """Return what stands between commas; a flag that is given once comes as a list of one."""
    text = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else text


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        if "%" in text:
            raise ValueError(f"{text!r} names an interface: write the network alone, {text.partition('%')[0]}")
    return tuple(str(ipaddress.ip_network(text)) for text in value)


class NginxSettings(BaseModel):
    """What the operator decides about nginx: its template knows each of these by its name."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    workers: int = Field(2, ge=1, le=256)
    """nginx worker processes"""
    worker_connections: int = Field(4096, ge=64, le=MAX_CALLS)
    """connections of one worker; a proxied request takes two"""
    worker_shutdown_timeout: int = Field(2100, ge=1, le=MAX_WAIT)
    """seconds that a replaced worker may finish its streams"""
    max_draining: int = Field(48, ge=1, le=MAX_DRAINING)
    """replaced workers that may finish their streams at a time; when so many do, changes wait"""
    read_timeout: int = Field(2000, ge=1, le=MAX_WAIT)
    """seconds that a model may stay silent within an answer, or while it takes a request"""
    max_body: str = "16m"
    """largest request body, as nginx writes sizes"""
    stream_bodies: Annotated[tuple[str, ...], NoDecode] = ()
    """models that get a request body piece by piece: NAME, NAMESPACE/NAME, NAMESPACE/* or *, separated by commas"""
    trusted_pages: Annotated[tuple[str, ...], NoDecode] = ()
    """models whose pages and cookies are taken for the front end's: NAME, NAMESPACE/NAME, NAMESPACE/* or *"""
    hidden_paths: Annotated[tuple[str, ...], NoDecode] = ("/-/routes", "/metrics")
    """beginnings of models' paths that no caller is shown, separated by commas"""
    pass_authorization: bool = True
    """pass a caller's Authorization on to models that are not trusted"""
    trusted_front_ends: Annotated[tuple[str, ...], NoDecode] = ()
    """CIDRs of those whose X-Forwarded-... is believed, separated by commas (default: everybody's is)"""
    calls_per_caller: int = Field(0, ge=0, le=MAX_CALLS)
    """calls that one address may have under way (default: any number)"""
    access_log: bool = False
    """let nginx log each request to its standard output, as JSON"""

    @field_validator("stream_bodies", "trusted_pages", "hidden_paths", "trusted_front_ends", mode="before")
    @classmethod
    def _commas_of_names(cls, value: object) -> object:
        return _listed(value)

    @field_validator("stream_bodies", "trusted_pages")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _names(text, lambda name: DNS_1035_LABEL.fullmatch(name) or name == "*"):
                raise ValueError(f"{text!r} names no model: NAME, NAMESPACE/NAME, NAMESPACE/* or *")
        return value

    @field_validator("trusted_front_ends")
    @classmethod
    def _are_front_ends(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _networks(value)

    @field_validator("hidden_paths")
    @classmethod
    def _are_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _PATH.fullmatch(text):
                raise ValueError(f"{text!r} is no path such as /metrics: letters, digits, - . _ ~ behind each slash")
            if len(text) > MAX_PATH:
                raise ValueError(f"{text[:20]!r}... is longer than {MAX_PATH} characters: a beginning of it will do")
        return value

    @field_validator("max_body")
    @classmethod
    def _is_size(cls, value: str) -> str:
        size = _SIZE.fullmatch(value)
        if not size or int(size[1]) * _UNITS[size[2].lower()] > MAX_OFFSET:
            raise ValueError(f"{value!r} is not a size such as 16m")
        if int(size[1]) == 0:
            raise ValueError(f"{value!r} is no limit, and a body may fill nginx's folder: name a size such as 16m")
        return value


class Settings(NginxSettings, BaseSettings):
    """Every setting of the daemon, checked."""

    model_config = SettingsConfigDict(
        env_prefix="RAYPROXY_",
        frozen=True,
        extra="ignore",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    source: Literal["kubernetes", "manifests"] = "kubernetes"
    """where the objects come from: a cluster, or a folder of YAML files"""
    manifests: Path | None = None
    """the folder of the manifests source"""
    kubeconfig: str | None = Field(None, validation_alias=AliasChoices("kubeconfig", "KUBECONFIG"))
    """kubeconfig file outside a cluster (environment: KUBECONFIG)"""
    context: str | None = None
    """context of the kubeconfig (default: its current one)"""
    label_selector: str = "app=prediction"
    """which objects to route"""
    kinds: Annotated[tuple[str, ...], NoDecode] = ()
    """kinds to route, separated by commas: rayservice, inferenceservice, llminferenceservice (the default), service"""
    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """namespaces to watch, separated by commas (default: all)"""
    allow_unowned_services: bool = False
    """accept a Service without an owner, or without a selector, as a backend (always so with manifests)"""
    name_hold: int = Field(600, ge=0, le=MAX_HOLD)
    """seconds for which the name of a deleted object is kept for its namespace; 0 keeps none"""
    names_configmap: str = "rayproxy-names" if IN_CLUSTER else ""
    """ConfigMap in which replicas share whose names are whose, [NAMESPACE/]NAME; in a pod rayproxy-names, else none"""
    name_policy: Path | None = None
    """file that says which namespaces may have which names (default: each may have any)"""
    max_routes_per_namespace: int = Field(0, ge=0)
    """routes that one namespace may have, those that are there first, then the oldest; 0 is any number"""
    allowed_cidrs: Annotated[tuple[str, ...], NoDecode] = ()
    """CIDRs that a ClusterIP must lie in, separated by commas (default: any)"""
    gateways: Annotated[tuple[str, ...], NoDecode] = KNATIVE_GATEWAYS
    """Services, NAMESPACE/NAME, that lead on to KServe's serverless models, separated by commas"""
    gateway_class: str = ""
    """GatewayClass whose Gateways, made by KubeRay for upgrades in steps, it alone speaks for (default: none)"""
    replicas_service: str = "rayproxy" if IN_CLUSTER else ""
    """the proxy's own Service, [NAMESPACE/]NAME, whose ready pods must agree in that; in a pod rayproxy, else none"""
    replica: str = Field(default_factory=socket.gethostname, min_length=1)
    """name of this replica, that of its pod; default: the host's"""
    template: str = "prefix"
    """location template: prefix, regex, or a file"""

    state_dir: Path = Field(default_factory=_default_state)
    """folder of the revisions, nginx's pid file and sockets; ~/.local/state/rayproxy, in a pod /var/lib/rayproxy"""
    nginx: Literal["managed", "external"] = "external" if IN_CLUSTER else "managed"
    """who starts nginx: managed (the daemon) or external (another container)"""
    nginx_binary: str = "nginx"
    """the nginx to test configurations with, and to start when managed"""
    listen: str = "8080" if IN_CLUSTER else "127.0.0.1:8080"
    """nginx's address:port; a port alone, or [::]:port, is every address of IPv4 and IPv6"""

    admin_listen: str = "9090" if IN_CLUSTER else "127.0.0.1:9090"
    """address:port of /metrics, /healthz and /readyz; a port alone, or [::]:port, is every address"""
    resync: float = Field(60.0, ge=1, le=MAX_WAIT)
    """seconds between checks that nginx still serves what it should"""
    pending_warning: float = Field(600.0, ge=1, le=MAX_WAIT)
    """seconds after which a pending object gets a warning Event"""
    reload_timeout: float = Field(30.0, ge=1, le=MAX_WAIT)
    """seconds to wait for nginx -t, for the proof of a reload, and for an nginx that was started"""
    events: bool = True
    """write Kubernetes Events on the routed objects"""
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    """debug, info, warning or error"""

    @field_validator("manifests", "name_policy", "state_dir", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object, info: ValidationInfo) -> object:
        """Take a variable that is there and empty for none: as a path it would be the folder one happens to be in."""
        if value != "":
            return value
        return _default_state() if info.field_name == "state_dir" else None

    @field_validator("namespaces", "allowed_cidrs", "kinds", "gateways", mode="before")
    @classmethod
    def _commas(cls, value: object) -> object:
        return _listed(value)

    @field_validator("namespaces")
    @classmethod
    def _are_namespaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not DNS_1123_LABEL.fullmatch(name):
                raise ValueError(f"{name!r} is not a namespace name")
        return value

    @field_validator("names_configmap")
    @classmethod
    def _is_configmap(cls, value: str) -> str:
        if value and not _names(value, _is_object):
            raise ValueError(f"{value!r} names no ConfigMap: NAME or NAMESPACE/NAME")
        return value

    @field_validator("gateway_class")
    @classmethod
    def _is_class(cls, value: str) -> str:
        if value and not _is_object(value):
            raise ValueError(f"{value!r} names no GatewayClass")
        return value

    @field_validator("replicas_service")
    @classmethod
    def _is_service(cls, value: str) -> str:
        if value and not _names(value, DNS_1035_LABEL.fullmatch):
            raise ValueError(f"{value!r} names no Service: NAME or NAMESPACE/NAME")
        return value

    @field_validator("gateways")
    @classmethod
    def _are_services(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            namespace, _, name = text.partition("/")
            if not (DNS_1123_LABEL.fullmatch(namespace) and DNS_1035_LABEL.fullmatch(name)):
                raise ValueError(f"{text!r} is no NAMESPACE/NAME of a Service, such as {KNATIVE_GATEWAYS[0]}")
        return value

    @field_validator("allowed_cidrs")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _networks(value)

    @field_validator("listen", "admin_listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parse_listen(value)
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.source == "manifests" and self.manifests is None:
            raise ValueError("the manifests source needs a folder: set RAYPROXY_MANIFESTS or --manifests")
        parse_selector(self.label_selector)
        path = str(self.state_dir.absolute() / "run/revision.sock")
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise ValueError(
                f"RAYPROXY_STATE_DIR is too long for a unix socket ({path}): choose a shorter folder, "
                f"such as one in {tempfile.gettempdir()}"
            )
        if not re.fullmatch(r"[A-Za-z0-9/._+@-]+", path):
            raise ValueError(f"RAYPROXY_STATE_DIR holds a character that nginx would need quoted: {path!r}")
        return self

    @property
    def for_nginx(self) -> NginxSettings:
        """Return the part that is nginx's."""
        return NginxSettings.model_validate({name: getattr(self, name) for name in NginxSettings.model_fields})

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """Return the allowed CIDRs, parsed."""
        return tuple(ipaddress.ip_network(text) for text in self.allowed_cidrs)

    @property
    def state(self) -> Path:
        """Return the state folder as an absolute path."""
        return self.state_dir.absolute()


def misspelt() -> dict[str, str]:
    """Return {variable: the setting it was meant to be} of the environment.

    What resembles no setting is left alone: another program's, or what Kubernetes says of a Service called `rayproxy`.
    """
    known = [f"RAYPROXY_{name.upper()}" for name in Settings.model_fields]
    others = [each for each in os.environ if each.startswith("RAYPROXY_") and each not in known]
    meant = {each: difflib.get_close_matches(each, known, 1, SIMILAR) for each in sorted(others)}
    return {each: close[0] for each, close in meant.items() if close}
