"""The definitions of RayService and LLMCheckpoint that tests put into a cluster.

The project's own small ones; and those of KubeRay and DataTunerX where the variable RAYPROXY_TEST_CRDS names
a folder that holds them: rayservices-kuberay-1.0.0.yaml, rayservices-kuberay-1.7.0.yaml and
core.datatunerx.io_llmcheckpoints.yaml.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_OWN = Path(__file__).parents[1] / "crds"
UPSTREAM = Path(os.environ["RAYPROXY_TEST_CRDS"]) if os.environ.get("RAYPROXY_TEST_CRDS") else None


@dataclass(frozen=True)
class Definitions:
    """Name the files of one cluster's definitions."""

    name: str
    kuberay: str  # release
    rayservice: Path
    llm_checkpoint: Path

    def load(self) -> list[dict[str, Any]]:
        """Return the definitions with their stored version alone: each version costs the API server seconds."""
        crds = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (self.rayservice, self.llm_checkpoint)]
        for crd in crds:
            crd["spec"]["versions"] = [version for version in crd["spec"]["versions"] if version["storage"]]
        return crds


def _upstream(folder: Path) -> tuple[Definitions, ...]:
    checkpoints = folder / "core.datatunerx.io_llmcheckpoints.yaml"
    return (
        Definitions("kuberay-1.0.0", "1.0", folder / "rayservices-kuberay-1.0.0.yaml", checkpoints),
        Definitions("kuberay-1.7.0", "1.7", folder / "rayservices-kuberay-1.7.0.yaml", checkpoints),
    )


OWN_TODAY = Definitions("own-1.7", "1.7", _OWN / "rayservices.yaml", _OWN / "llmcheckpoints.yaml")
OWN_OLD = Definitions("own-1.0", "1.0", _OWN / "rayservices-1.0.yaml", _OWN / "llmcheckpoints.yaml")
ALL = (OWN_OLD, OWN_TODAY, *(_upstream(UPSTREAM) if UPSTREAM else ()))
