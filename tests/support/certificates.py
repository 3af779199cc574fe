"""Certificates, each its own CA."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificate(folder: Path, name: str, address: str = "IP:127.0.0.1") -> tuple[str, str]:
    """Make a certificate that trusts itself; return its file and its key's."""
    crt, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={address}", "-keyout", key, "-out", crt],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(crt), str(key)
