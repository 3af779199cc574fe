"""Run the login program that a kubeconfig names (`exec`), and say why where it gives no login.

The `kubernetes` package goes on without a login then, as nobody, who is told other reasons for what does not work.
"""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rayproxy.objects import plain, text

_MAX_WORDS = 1000  # characters of what a program says: its last ones, which have the error of a traceback
_EXTENSION = "client.authentication.k8s.io/exec"  # of a cluster, what is meant for such programs
_STDIN, _STDERR = 0, 2


class LoginProgramError(Exception):
    """Say why a login program gave no login, in its own words."""


def login(program: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any]) -> dict[str, str]:
    """Run it, once; return what it gives, as a kubeconfig's user has it; raise LoginProgramError."""
    command, version = text(program, "command"), text(program, "apiVersion")
    if not command or not version:
        raise LoginProgramError("its login program needs a command and an apiVersion")
    try:
        ran = _run([_found(command, folder), *(program.get("args") or [])], program, cluster)
    except OSError as error:
        hint = _one_line(text(program, "installHint"))
        why = f"cannot be run: {error.strerror}" + (f". {hint}" if hint else "")
        raise LoginProgramError(f"its login program {command} {why}") from error
    try:
        return _given(ran, version)
    except LoginProgramError as error:
        words = _one_line((ran.stderr or b"").decode(errors="replace"))[-_MAX_WORDS:]
        raise LoginProgramError(f"its login program {command} {error}" + (f": {words}" if words else "")) from None


def _run(
    arguments: list[str], program: Mapping[str, Any], cluster: Mapping[str, Any]
) -> subprocess.CompletedProcess[bytes]:
    asks = _at_a_terminal() and program.get("interactiveMode") != "Never"
    told = {"interactive": asks} | ({"cluster": _told_of(cluster)} if program.get("provideClusterInfo") else {})
    question = {"apiVersion": program["apiVersion"], "kind": "ExecCredential", "spec": told}
    environment = {each["name"]: each["value"] for each in program.get("env") or []}
    return subprocess.run(  # noqa: S603 - the kubeconfig says so, as it does to kubectl
        arguments,
        env=os.environ | environment | {"KUBERNETES_EXEC_INFO": json.dumps(question)},
        stdin=None if asks else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if asks else subprocess.PIPE,  # who is asked something must see it
        check=False,
    )


def _at_a_terminal() -> bool:
    return os.isatty(_STDIN) and os.isatty(_STDERR)


def _told_of(cluster: Mapping[str, Any]) -> dict[str, Any]:
    configs = [each["extension"] for each in cluster.get("extensions") or [] if each.get("name") == _EXTENSION]
    return {**cluster} | ({"config": configs[0]} if configs else {})


def _found(command: str, folder: Path) -> str:
    """Return the command: one with a slash in it is relative to the kubeconfig's folder, one without is in PATH."""
    return str(folder.absolute() / command) if "/" in command else command


def _given(ran: subprocess.CompletedProcess[bytes], version: str) -> dict[str, str]:
    if ran.returncode:
        raise LoginProgramError(f"ended with exit code {ran.returncode}")
    try:
        answer = json.loads(ran.stdout)
    except (ValueError, RecursionError):
        raise LoginProgramError("answered with something that is not JSON") from None  # and may be secret
    if (said := text(answer, "apiVersion")) != version:
        raise LoginProgramError(f"answered by version {said or 'none'} of its API, and the kubeconfig says {version}")
    token = text(answer, "status", "token")
    certificate, key = text(answer, "status", "clientCertificateData"), text(answer, "status", "clientKeyData")
    if not token and not (certificate and key):
        raise LoginProgramError("gave neither a token nor a certificate and its key")
    given = {"token": token, "client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
    return {name: value for name, value in given.items() if value}


def _base64(pem: str) -> str:
    return b64encode(pem.encode()).decode()


def _one_line(words: str) -> str:
    return " ".join(plain(words).split())
