"""What Kubernetes takes as a name. Full matches are meant."""

from __future__ import annotations

import re

# RFC 1035 label. KubeRay checks it in its operator only, so the API may hold others.
DNS_1035_LABEL = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
# RFC 1123 subdomain: what Kubernetes takes as the name of a custom object; 253 characters at most.
DNS_1123_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
# RFC 1123 label: what a namespace may be.
DNS_1123_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
MAX_NAME = 253  # characters of any name in Kubernetes; others are in manifests only
