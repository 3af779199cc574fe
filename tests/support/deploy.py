"""deploy/ as an API server gets it: rendered by kubectl, and without what an old API server does not know."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBECTL = Path(sys.executable).parent / "kubectl"

Manifest = dict[str, Any]


def render(folder: str) -> list[Manifest]:
    """Return what `kubectl apply -k FOLDER` would apply."""
    done = subprocess.run([KUBECTL, "kustomize", ROOT / folder], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr, f"kustomize warns: {done.stderr.decode()}"
    return list(yaml.safe_load_all(done.stdout))


def with_component(
    folder: Path, component: str, overlay: str = "all-namespaces", namespace: str = "", more: str = ""
) -> list[Manifest]:
    """Return deploy/ with one of its components, as an overlay of one's own has it, in a namespace of its own too."""
    shutil.copytree(ROOT / "deploy", folder / "deploy", dirs_exist_ok=True)
    own = folder / "own"
    own.mkdir(exist_ok=True)
    namespace = namespace or ("rayproxy" if overlay == "all-namespaces" else "models")
    head = f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {namespace}\n"
    text = f"resources: [../deploy/overlays/{overlay}]\ncomponents: [../deploy/{component}]\n"
    (own / "kustomization.yaml").write_text(head + text + more)
    return render(str(own))


def one(manifests: list[Manifest], kind: str, name: str = "rayproxy") -> Manifest:
    """Return the manifest of a kind and a name; a generated name goes on with a hash."""
    mine = {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}
    generated = re.compile(rf"{name}-[0-9a-z]{{10}}")
    return mine.get(name) or next(manifest for each, manifest in mine.items() if generated.fullmatch(each))


def containers(deployment: Manifest) -> dict[str, Manifest]:
    """Return the containers of the pod, the init containers too, by name."""
    spec = deployment["spec"]["template"]["spec"]
    return {each["name"]: each for each in [*spec["initContainers"], *spec["containers"]]}


def lost(given: object, kept: object, path: str = "") -> list[str]:
    """Return the paths of what was given and not kept; lists in their order, values by what they are called."""
    if isinstance(given, dict):
        if not isinstance(kept, dict):
            return [path]
        return [each for key in given for each in lost(given[key], kept.get(key), f"{path}/{key}")]
    if isinstance(given, list):
        if not isinstance(kept, list) or len(kept) != len(given):
            return [path]
        return [each for i, (a, b) in enumerate(zip(given, kept, strict=True)) for each in lost(a, b, f"{path}[{i}]")]
    return [] if kept is not None else [path]


def for_server(manifests: list[Manifest], version: tuple[int, int]) -> list[Manifest]:
    """Return the manifests as an API server of that version can take them.

    policy/v1 came with 1.21, with the same fields that policy/v1beta1 had. A Service's ipFamilyPolicy is dropped
    before 1.21, and a probe's own terminationGracePeriodSeconds before 1.25. Nothing else of deploy/ is younger than
    1.20.
    """
    changed: list[Manifest] = json.loads(json.dumps(manifests))
    for manifest in changed:
        if manifest["apiVersion"] == "policy/v1" and version < (1, 21):
            manifest["apiVersion"] = "policy/v1beta1"
        if manifest["kind"] == "Service" and version < (1, 21):
            manifest["spec"].pop("ipFamilyPolicy", None)
        if manifest["kind"] == "Deployment" and version < (1, 25):
            for container in containers(manifest).values():
                container.get("livenessProbe", {}).pop("terminationGracePeriodSeconds", None)
    return changed


def kubectl(kubeconfig: Path, *arguments: str, manifests: list[Manifest] | None = None) -> str:
    """Run kubectl; fail with its words."""
    done = subprocess.run(
        [KUBECTL, "--kubeconfig", kubeconfig, *arguments],
        input=yaml.safe_dump_all(manifests).encode() if manifests is not None else None,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stderr.decode()}"
    return done.stdout.decode()
