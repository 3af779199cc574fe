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
_UPSTREAM = Path(os.environ["RAYPROXY_TEST_CRDS"]) if os.environ.get("RAYPROXY_TEST_CRDS") else None


@dataclass(frozen=True)
class Definitions:
    """Name the files of one cluster's definitions."""

    name: str
    kuberay: str  # release
    rayservice: Path | None
    llm_checkpoint: Path | None

    @property
    def missing(self) -> str:
        """Say what would make them available, or nothing where they are."""
        return "" if self.rayservice else "KubeRay's own definitions: name their folder in RAYPROXY_TEST_CRDS"

    def load(self) -> list[dict[str, Any]]:
        """Return the definitions."""
        files = [path for path in (self.rayservice, self.llm_checkpoint) if path]
        return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]


def _upstream(name: str) -> Path | None:
    return _UPSTREAM / name if _UPSTREAM else None


_PUBLISHED = _upstream("core.datatunerx.io_llmcheckpoints.yaml")

ALL = (
    Definitions("own-1.0", "1.0", _OWN / "rayservices-1.0.yaml", _OWN / "llmcheckpoints.yaml"),
    Definitions("own-1.7", "1.7", _OWN / "rayservices.yaml", _OWN / "llmcheckpoints.yaml"),
    Definitions("kuberay-1.0.0", "1.0", _upstream("rayservices-kuberay-1.0.0.yaml"), _PUBLISHED),
    Definitions("kuberay-1.7.0", "1.7", _upstream("rayservices-kuberay-1.7.0.yaml"), _PUBLISHED),
)
