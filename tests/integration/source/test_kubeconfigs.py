"""Kubeconfigs mean what they mean to kubectl: which file counts, and who one is to the API server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayproxy.kube.api import CredentialsError
from rayproxy.kube.login import from_kubeconfig, namespace_of


def kubeconfig(folder: Path, name: str, current: str | None = None, server: str = "", **user: Any) -> Path:
    """Write a kubeconfig whose context, cluster, user and namespace are all called like its file."""
    said = {
        "clusters": [{"name": name, "cluster": {"server": server or f"https://{name}.example"}}],
        "users": [{"name": name, "user": user or {"token": f"token-of-{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": name}}],
    }
    path = folder / name
    path.write_text(yaml.safe_dump(said if current is None else said | {"current-context": current}))
    return path


def joined(*paths: Path | str) -> str:
    return os.pathsep.join(map(str, paths))


@pytest.mark.fault(157)
@pytest.mark.parametrize(
    ("first", "second", "meant"),
    [("a", "b", "a"), ("a", None, "a"), ("a", "", "a"), ("", "b", "b"), (None, "b", "b"), ("b", "a", "b")],
)
def test_of_several_files_the_first_that_names_a_current_context_is_obeyed(
    folder: Path, first: str | None, second: str | None, meant: str
):
    files = joined(kubeconfig(folder, "a", first), folder / "none", kubeconfig(folder, "b", second))
    login = from_kubeconfig(files, None)
    assert (login.host, login.authorization) == (f"https://{meant}.example", f"Bearer token-of-{meant}")
    assert namespace_of(files, None) == meant
    assert from_kubeconfig(files, "a").host == "https://a.example"


@pytest.mark.fault(157)
def test_what_two_files_call_alike_is_the_first_ones(folder: Path):
    (folder / "other").mkdir()
    first, second = kubeconfig(folder, "a", "a"), kubeconfig(folder / "other", "a", "a", "https://other.example")
    assert from_kubeconfig(joined(first, second), None).host == "https://a.example"
    assert from_kubeconfig(joined(second, first), None).host == "https://other.example"


@pytest.mark.fault(157)
def test_what_a_file_says_of_paths_is_relative_to_that_file(folder: Path):
    (folder / "other").mkdir()
    (folder / "other" / "token").write_text("two")
    second = kubeconfig(folder / "other", "b", "b", tokenFile="token")
    assert from_kubeconfig(joined(kubeconfig(folder, "a"), second), None).authorization == "Bearer two"


@pytest.mark.parametrize("ask", [from_kubeconfig, namespace_of])
def test_where_no_file_names_a_current_context_that_is_said(folder: Path, ask):
    files = joined(kubeconfig(folder, "a"), kubeconfig(folder, "b", ""))
    with pytest.raises(CredentialsError, match="it names no current context"):
        ask(files, None)
