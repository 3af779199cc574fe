"""Every setting: one declaration is the flag, the environment variable, its check and its line in --help.

The only module that reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rayproxy.listen import parse_listen
from rayproxy.names import DNS_1035_LABEL, DNS_1123_LABEL
from rayproxy.selector import parse_selector

IN_CLUSTER = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
MAX_SOCKET_PATH = 107  # bytes, sun_path of unix(7)

_SIZE = re.compile(r"[0-9]+[kKmMgG]?")


def _default_state() -> Path:
    if IN_CLUSTER:
        return Path("/var/lib/rayproxy")
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base) / "rayproxy" if base else Path.home() / ".local/state/rayproxy"


def _listed(value: object) -> object:
    """Return what stands between commas; a flag that is given once comes as a list of one."""
    text = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else text


class NginxSettings(BaseModel):
    """What the operator decides about nginx: its template knows each of these by its name."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    workers: int = Field(2, ge=1, le=256)
    """nginx worker processes"""
    worker_connections: int = Field(4096, ge=64, le=1_000_000)
    """connections of one worker; a proxied request takes two"""
    worker_shutdown_timeout: int = Field(2100, ge=1)
    """seconds that a replaced worker may finish its streams"""
    read_timeout: int = Field(2000, ge=1)
    """seconds that a model may stay silent within an answer"""
    max_body: str = "16m"
    """largest request body, as nginx writes sizes"""
    stream_bodies: Annotated[tuple[str, ...], NoDecode] = ()
    """models that get a request body piece by piece: NAME, NAMESPACE/NAME, NAMESPACE/* or *, separated by commas"""
    trusted_pages: Annotated[tuple[str, ...], NoDecode] = ()
    """models whose pages run as the front end's own: NAME, NAMESPACE/NAME, NAMESPACE/* or *, separated by commas"""
    access_log: bool = False
    """let nginx log each request to its standard output, as JSON"""

    @field_validator("stream_bodies", "trusted_pages", mode="before")
    @classmethod
    def _commas_of_names(cls, value: object) -> object:
        return _listed(value)

    @field_validator("stream_bodies", "trusted_pages")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            namespace, slash, name = text.rpartition("/")
            good = DNS_1035_LABEL.fullmatch(name) or name == "*"
            if not good or (slash and not DNS_1123_LABEL.fullmatch(namespace)):
                raise ValueError(f"{text!r} names no RayService: NAME, NAMESPACE/NAME, NAMESPACE/* or *")
        return value

    @field_validator("max_body")
    @classmethod
    def _is_size(cls, value: str) -> str:
        if not _SIZE.fullmatch(value):
            raise ValueError(f"{value!r} is not a size such as 16m")
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
    """where RayServices come from: a cluster, or a folder of YAML files"""
    manifests: Path | None = None
    """the folder of the manifests source"""
    kubeconfig: str | None = Field(None, validation_alias=AliasChoices("kubeconfig", "KUBECONFIG"))
    """kubeconfig file outside a cluster (environment: KUBECONFIG)"""
    context: str | None = None
    """context of the kubeconfig (default: its current one)"""
    label_selector: str = "app=prediction"
    """which RayServices to route"""
    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """namespaces to watch, separated by commas (default: all)"""
    allow_unowned_services: bool = False
    """accept a Service without an owner, or without a selector, as a backend (always so with manifests)"""
    allowed_cidrs: Annotated[tuple[str, ...], NoDecode] = ()
    """CIDRs that a ClusterIP must lie in, separated by commas (default: any)"""
    template: str = "prefix"
    """location template: prefix, documented, or a file"""

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
    resync: float = Field(60.0, ge=1)
    """seconds between checks that nginx still serves what it should"""
    pending_warning: float = Field(600.0, ge=1)
    """seconds after which a pending RayService gets a warning Event"""
    reload_timeout: float = Field(30.0, ge=1)
    """seconds to wait for nginx -t, and for the proof of a reload"""
    events: bool = True
    """write Kubernetes Events on the RayServices"""
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    """debug, info, warning or error"""

    @field_validator("namespaces", "allowed_cidrs", mode="before")
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

    @field_validator("allowed_cidrs")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(text)) for text in value)

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
