"""`rayproxy render`."""

from __future__ import annotations

import difflib
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic_settings import SettingsConfigDict

from rayproxy import wiring
from rayproxy.cli.claims import held
from rayproxy.kinds import settle
from rayproxy.kinds.grants import Grants
from rayproxy.kube.api import PATIENT
from rayproxy.model import Route, Snapshot
from rayproxy.nginx.render import File, render
from rayproxy.nginx.template_loader import TemplateChoice
from rayproxy.settings import Settings
from rayproxy.sources.base import Nobody


class Render(Settings):
    """Show what would be written; changes nothing."""

    model_config = SettingsConfigDict(cli_shortcuts={"output": "o"})

    output: Path | None = None
    """folder to write the files to (default: standard output)"""
    diff: bool = False
    """show the difference to the live revision; exit code 1 when there is one"""

    def main(self) -> int:
        """Render once."""
        files = self._files()
        if self.diff:
            return self._print_diff(files)
        if self.output is None:
            print("\n".join(f"# {name}\n{file.text}" for name, file in sorted(files.items())))
            return 0
        self.output.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            (self.output / name).write_text(file.text)
        print(f"{len(files)} files in {self.output}")
        return 0

    def _files(self) -> Mapping[str, File]:
        template, _ = TemplateChoice(self.template, lambda _: None)()
        snapshot, grants = look(self)
        for problem in snapshot.problems:
            print(f"skipped: {problem}", file=sys.stderr)
        decisions = settle(snapshot, wiring.make_policy(self), held(self), grants).decisions
        for decision in decisions:
            if not isinstance(decision, Route):
                print(f"{type(decision).__name__.lower()}: {decision.ref}: {decision.message}", file=sys.stderr)
        return render(decisions, template, wiring.nginx_conf(self))

    def _print_diff(self, files: Mapping[str, File]) -> int:
        revisions = wiring.make_revisions(self)
        current = revisions.current()
        live = revisions.files(current, current.sums) if current else {}
        lines: list[str] = []
        for name in sorted(live.keys() | files.keys()):
            old, new = (side[name].text.splitlines(keepends=True) if name in side else [] for side in (live, files))
            lines += difflib.unified_diff(old, new, f"live/{name}", f"desired/{name}")
        print(*lines, sep="", end="")
        return 1 if lines else 0


def look(settings: Settings) -> tuple[Snapshot, Grants]:
    """Look at the source and at the name policy once, without a daemon."""
    server = wiring.make_api(settings, PATIENT) if settings.source == "kubernetes" else None
    wake = threading.Event()
    source = wiring.make_source(settings, server, Nobody(), wake)
    labels = wiring.make_labels(server, (wake.set, Nobody()))
    policy = wiring.make_grants(settings, labels)
    snapshot = source.confirm()
    if labels:
        labels.look()
    grants, problems = policy()
    return replace(snapshot, problems=(*snapshot.problems, *problems)), grants
