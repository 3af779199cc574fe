"""Run the login program that a kubeconfig names (`exec`), and say why where it gives no login.

The `kubernetes` package goes on without a login then, as nobody, who is told other reasons for what does not work.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rayproxy.objects import plain, text

_MAX_WORDS = 1000  # characters of what a program says: its last ones, which have the error of a traceback
_EXTENSION = "client.authentication.k8s.io/exec"  # of a cluster, what is meant for such programs
# What such a program is told of its cluster beside `server`: client-go's fields and no more, nor empty ones.
_TOLD = (
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
)
_STDIN, _STDERR = 0, 2


class LoginProgramError(Exception):
    """Say why a login program gave no login, in its own words."""


def login(
    program: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any], clusters: Path, limit: float | None = None
) -> dict[str, str]:
    """Run it, once; return what it gives, as a kubeconfig's user has it; raise LoginProgramError.

    `folder` and `clusters` are those of the kubeconfigs that name it and the cluster. After `limit` seconds it is
    killed, but where it may ask somebody something: people take their time, and have Ctrl-C.
    """
    command, version = text(program, "command"), text(program, "apiVersion")
    if not command or not version:
        raise LoginProgramError("its login program needs a command and an apiVersion")
    told = {"cluster": _told_of(cluster, clusters)} if program.get("provideClusterInfo") else {}
    try:
        ran = _run([_found(command, folder), *(program.get("args") or [])], program, told, limit)
    except OSError as error:
        hint = _one_line(text(program, "installHint"))
        why = f"cannot be run: {error.strerror}" + (f". {hint}" if hint else "")
        raise LoginProgramError(f"its login program {command} {why}") from error
    except subprocess.TimeoutExpired as error:
        raise _failure(command, f"did not end within {limit:g} s", error.stderr) from None
    try:
        return _given(ran, version)
    except LoginProgramError as error:
        raise _failure(command, str(error), ran.stderr) from None


def _failure(command: str, why: str, stderr: bytes | None) -> LoginProgramError:
    words = _one_line((stderr or b"").decode(errors="replace"))[-_MAX_WORDS:]
    return LoginProgramError(f"its login program {command} {why}" + (f": {words}" if words else ""))


def _run(
    arguments: list[str], program: Mapping[str, Any], told: Mapping[str, Any], limit: float | None
) -> subprocess.CompletedProcess[bytes]:
    heard = os.isatty(_STDERR)  # it speaks to somebody itself, above all of what it waits for
    asks = heard and os.isatty(_STDIN) and program.get("interactiveMode") != "Never"
    spec = {"interactive": asks, **told}
    question = {"apiVersion": program["apiVersion"], "kind": "ExecCredential", "spec": spec}
    environment = {each["name"]: each.get("value") or "" for each in program.get("env") or []}
    limited = limit is not None and not asks
    process = subprocess.Popen(  # noqa: S603 - the kubeconfig says so, as it does to kubectl
        arguments,
        env=os.environ | environment | {"KUBERNETES_EXEC_INFO": json.dumps(question)},
        stdin=None if asks else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if heard else subprocess.PIPE,
        start_new_session=limited,  # it is killed with what it started
    )
    with process:
        try:
            stdout, stderr = process.communicate(timeout=limit if limited else None)
        except BaseException:  # Ctrl-C as well, which another session does not get
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if limited else process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def _told_of(cluster: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    told = {"server": text(cluster, "server")} | {name: cluster[name] for name in _TOLD if cluster.get(name)}
    authority = text(cluster, "certificate-authority")
    if authority and "certificate-authority-data" not in told:
        told["certificate-authority-data"] = b64encode((folder.absolute() / authority).read_bytes()).decode()
    configs = [each.get("extension") for each in cluster.get("extensions") or [] if each.get("name") == _EXTENSION]
    return told | ({"config": configs[0]} if configs else {})


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
