"""Build the zip that a RayService takes as its `working_dir`, and print its path.

    python tools/inference_zip.py [--output build]

The same sources give the same bytes on any machine, and other sources another name: Ray keeps what it has
unpacked under the file's address, so a zip that changed under its old name would never be read again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold
REGULAR_FILE = 0o100644 << 16
UNIX = 3


def main() -> None:
    """Read the arguments, build, print the path."""
    parser = argparse.ArgumentParser(description="Build the zip that a RayService takes as its working_dir.")
    parser.add_argument("--output", type=Path, default=ROOT / "build", help="folder (default: %(default)s)")
    print(write(ROOT / "serving", parser.parse_args().output.resolve()))


def write(source: Path, output: Path) -> Path:
    """Write `inference-<hash>.zip` with the files below `source` into `output` and return its path."""
    content = pack(source)
    target = output / f"inference-{hashlib.sha256(content).hexdigest()[:12]}.zip"
    if not target.exists():
        output.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        part.write_bytes(content)
        part.rename(target)
    return target


def pack(source: Path) -> bytes:
    """Return the zip's bytes, which depend on the files' names and content alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # two zlibs compress differently
        for path in sorted(files(source), key=Path.as_posix):
            archive.writestr(_entry(path.relative_to(source)), path.read_bytes())
    return buffer.getvalue()


def files(source: Path) -> list[Path]:
    """Return the files to pack: no caches, nothing hidden."""
    return [path for path in source.rglob("*") if path.is_file() and not _is_left_out(path.relative_to(source))]


def _is_left_out(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _entry(name: Path) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name.as_posix(), EPOCH)
    entry.external_attr = REGULAR_FILE
    entry.create_system = UNIX
    return entry


if __name__ == "__main__":
    main()
