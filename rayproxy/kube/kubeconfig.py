"""Read kubeconfigs as kubectl reads them, where the `kubernetes` package does otherwise.

Of several files it takes the last one's current context, and kubectl the first one's: a command would go to another
cluster than the kubectl beside it. Where a login program fails, it goes on as nobody, and as whom to ask it ignores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.config.kube_config import ConfigNode

from rayproxy.kube import impersonation, login_program

_AT_HOME = "~/.kube/config"
_PARTS = ("clusters", "contexts", "users")
# Of a cluster, what must be text: the `kubernetes` package takes it as it comes, and a request fails of it much later.
_TEXTS = ("server", "tls-server-name", "proxy-url", "certificate-authority", "certificate-authority-data")
_OF_TLS = (
    "certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify",
    "client-certificate", "client-certificate-data",
)  # fmt: skip
_UNVERIFIED = "insecure-skip-tls-verify"  # to that package "false" is true, and whoever answers would get the token


class KubeconfigError(Exception):
    """Say what is wrong with a kubeconfig."""


class NoKubeconfigError(KubeconfigError):
    """Say that there is none, or one that means no cluster, which is none to client-go as well."""


class _Loader(yaml.SafeLoader):
    """Read what kubectl reads, merge keys as well; a time stays the text that it is: programs are told it in JSON."""


_Loader.yaml_constructors = {
    **yaml.SafeLoader.yaml_constructors,
    "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_str,
}


@dataclass(frozen=True)
class Kubeconfig:
    """What the files say together, as the `kubernetes` package holds it, and the context that counts."""

    merged: dict[str, Any]
    context: str

    @property
    def namespace(self) -> str:
        """Return the namespace that the context names, else "default"."""
        return str(self._context.get("namespace") or "default")

    @property
    def impersonation(self) -> impersonation.Fields:
        """Return the header fields that say as whom the user asks; raise ValueError."""
        return impersonation.fields(self._user()[0])

    def check_cluster(self) -> None:
        """Raise KubeconfigError where something of the cluster is of another type than kubectl takes."""
        cluster, _ = self._said("clusters", self._context.get("cluster"), "cluster")
        for name in _TEXTS:
            if not isinstance(cluster.get(name), str | None):
                raise KubeconfigError(f"its {name} is not text")
        if not isinstance(cluster.get(_UNVERIFIED), bool | None):
            raise KubeconfigError(f"its {_UNVERIFIED} is neither true nor false")

    def log_in(self, limit: float | None) -> None:
        """Put what the user's login program gives in its place, where one is named; raise LoginProgramError."""
        user, file = self._user()
        cluster, clusters = self._said("clusters", self._context.get("cluster"), "cluster")
        program = user.pop("exec", None)
        if program and not (user.get("token") or user.get("tokenFile")):
            user.update(login_program.login(program, Path(file).parent, cluster, Path(clusters).parent, limit))

    def complete_server(self) -> None:
        """Give a server without a scheme client-go's: TLS where anything of that is said.

        The `kubernetes` package leaves TLS away, so that the token would go over the wire for all to read.
        """
        cluster, _ = self._said("clusters", self._context.get("cluster"), "cluster")
        server = cluster.get("server")
        if server and "://" not in server:
            secure = any(cluster.get(name) for name in _OF_TLS) or any(self._user()[0].get(name) for name in _OF_TLS)
            cluster["server"] = f"{'https' if secure else 'http'}://{server}"

    @property
    def _context(self) -> dict[str, Any]:
        return self._said("contexts", self.context, "context")[0]

    def _user(self) -> tuple[dict[str, Any], str]:
        return self._said("users", self._context.get("user"), "user")

    def _said(self, part: str, name: object, kind: str) -> tuple[dict[str, Any], str]:
        """Return what is said of something, nothing where it is not there, and in which file."""
        for node in self.merged[part]:
            if node["name"] == name and isinstance(said := node.safe_get(kind), dict):
                return said, node.path
        return {}, ""


def location(path: str | None) -> str:
    """Return the file, or files with colons between them, that are meant."""
    return path or os.environ.get("KUBECONFIG") or _AT_HOME


def read(path: str | None, context: str | None) -> Kubeconfig:
    """Read the files; raise KubeconfigError, and of one that is being written whatever its parsers raise."""
    found = list(_files(location(path)))
    if not found:
        raise NoKubeconfigError("there is no such file")
    files = [(file, config) for file, config in found if config is not None]
    if not files:
        raise NoKubeconfigError("there is nothing in it")
    merged: dict[str, Any] = {part: [] for part in _PARTS}
    for file, config in files:
        for part in _PARTS:
            _add(merged[part], config.get(part) or [], f"{file}/{part}", file)
    chosen = context or next(filter(None, (config.get("current-context") for _, config in files)), None)
    if not chosen:
        raise NoKubeconfigError("it names no current context, and no other was asked for")
    if all(node["name"] != chosen for node in merged["contexts"]):
        raise KubeconfigError(f"it has no context {chosen!r}")
    return Kubeconfig(merged, chosen)


def _files(where: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the files that are there, the first first, with what they say: one may be empty."""
    for each in filter(None, where.split(os.pathsep)):
        file = Path(each).expanduser()
        try:
            config = yaml.load(file.read_bytes(), _Loader)  # noqa: S506 - a safe one
        except FileNotFoundError:
            continue
        except (yaml.YAMLError, ValueError) as error:  # their words quote what stands there: secrets
            raise KubeconfigError(f"{file} is no YAML{_where(error)}") from None
        if not isinstance(config, dict | None):
            raise KubeconfigError(f"{file} is no mapping")
        yield str(file), config


def _where(error: Exception) -> str:
    mark = error.problem_mark or error.context_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _add(nodes: list[Any], entries: list[Any], name: str, file: str) -> None:
    """Take over the entries whose names are new; each knows its file, which what it says of paths is relative to."""
    for entry in entries:
        node = ConfigNode(name, entry, file)  # type: ignore[no-untyped-call]
        if all(each["name"] != node["name"] for each in nodes):
            nodes.append(node)
