"""The module that a RayService imports: `inference.deployment`, or `inference:build` with arguments."""

from llmserving.deployment import build

deployment = build({})

__all__ = ["build", "deployment"]
