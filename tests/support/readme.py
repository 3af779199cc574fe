"""The parts of docs/checkpoints.md that a command writes: between `<!-- NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from pathlib import Path

from rayproxy.checkpoint.options import Options
from rayproxy.cli.deploy import Deploy
from tests.support import golden

PATH = Path(__file__).parents[2] / "docs" / "checkpoints.md"
_PART = re.compile(r"(<!-- deploy:([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled() -> str:
    """Return the page with every such part written anew."""
    return _PART.sub(lambda part: part[1] + _write(part[2]) + part[3], PATH.read_text(encoding="utf-8"))


def parts() -> list[str]:
    """Return the names of the parts that it has."""
    return [part[2] for part in _PART.finditer(PATH.read_text(encoding="utf-8"))]


def _write(name: str) -> str:
    if name == "options":
        return _table(Options.model_fields)
    if name == "flags":
        others = {key: field for key, field in Deploy.model_fields.items() if key not in Options.model_fields}
        return _table(others)
    if name == "input":
        return f"```yaml\n{(golden.INPUTS / 'documented.yaml').read_text(encoding='utf-8')}```\n"
    path = golden.TESTS / "golden" / "deploy" / f"{name}.yaml"
    manifest = f"```yaml\n{golden.output(path)}```"
    made = f"<details><summary>The RayService that it makes</summary>\n\n{manifest}\n\n</details>\n"
    return f"```sh\n{golden.command(path)}```\n\n{made}"


def _table(fields: dict) -> str:
    rows = [f"| {_flag(name, field)} | {_default(field)} | {field.description} |" for name, field in fields.items()]
    return "\n".join(["| option | default | what |", "|---|---|---|", *rows, ""])


def _flag(name: str, field) -> str:
    if name == "checkpoint":
        return "`CHECKPOINT`"
    letter = (Deploy.model_config["cli_shortcuts"] or {}).get(name)
    flags = [*([f"-{letter}"] if letter else []), f"--{name.replace('_', '-')}"]
    return ", ".join(f"`{flag}`" for flag in flags)


def _default(field) -> str:
    shown = isinstance(field.default, str | int | float) and field.default is not False
    return f"`{field.default}`" if shown else ""
