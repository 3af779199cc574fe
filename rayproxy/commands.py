"""The commands: run, render, check, routes, init, serve and unserve."""

from __future__ import annotations

import difflib
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic_settings import SettingsConfigDict

from rayproxy import app, parts, status
from rayproxy.check import run_checks
from rayproxy.kinds import decide
from rayproxy.model import Route, Snapshot
from rayproxy.render import File, render
from rayproxy.serve.command import Serve, Unserve
from rayproxy.settings import Settings
from rayproxy.template_choice import TemplateChoice


class CommandError(Exception):
    """Say why a command could not do what was asked."""


class Run(Settings):
    """Watch RayServices and keep nginx in step."""

    def main(self) -> int:
        """Run until a signal."""
        return app.run(self)


class Init(Settings):
    """Write a first revision where there is none, so that nginx can start before the daemon."""

    def main(self) -> int:
        """Write it and say which it is."""
        print(parts.first_revision(parts.make_revisions(self), self).path)
        return 0


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
        snapshot = look(self)
        for problem in snapshot.problems:
            print(f"skipped: {problem}", file=sys.stderr)
        decisions = decide(snapshot, parts.make_policy(self))
        for decision in decisions:
            if not isinstance(decision, Route):
                print(f"{type(decision).__name__.lower()}: {decision.ref}: {decision.message}", file=sys.stderr)
        return render(decisions, template, parts.nginx_conf(self))

    def _print_diff(self, files: Mapping[str, File]) -> int:
        revisions = parts.make_revisions(self)
        current = revisions.current()
        live = revisions.files(current, current.sums) if current else {}
        lines: list[str] = []
        for name in sorted(live.keys() | files.keys()):
            old, new = (side[name].text.splitlines(keepends=True) if name in side else [] for side in (live, files))
            lines += difflib.unified_diff(old, new, f"live/{name}", f"desired/{name}")
        sys.stdout.writelines(lines)
        return 1 if lines else 0


class Check(Settings):
    """Look at settings, permissions, nginx and folders; each line is ok or says what to do."""

    def main(self) -> int:
        """Print one line for each check; exit code 1 if one failed."""
        failed = False
        for name, wrong in run_checks(self):
            failed |= wrong is not None
            print(f"{'FAIL' if wrong else 'ok':4}  {name}" + (f": {wrong}" if wrong else ""))
        return 1 if failed else 0


class Routes(Settings):
    """List every RayService with its state, backend and reason, as the daemon last saw it."""

    model_config = SettingsConfigDict(cli_shortcuts={"output": "o"})

    output: Literal["table", "json"] = "table"
    """table or json"""

    def main(self) -> int:
        """Print what the daemon last wrote."""
        path = self.state / "status.json"
        if not path.exists():
            raise CommandError(f"no daemon has written {path}: is it running, and is RAYPROXY_STATE_DIR the same?")
        found = status.read(path).values()
        print(
            json.dumps([asdict(entry) for entry in found], indent=2) if self.output == "json" else status.table(found)
        )
        return 0


def look(settings: Settings) -> Snapshot:
    """Look at the source once, without a daemon."""
    server = parts.make_api(settings) if settings.source == "kubernetes" else None
    source = parts.make_source(settings, server, _Nobody(), threading.Event())
    return source.confirm()


class _Nobody:
    def contact(self, resource: str) -> None:
        pass

    def failure(self, resource: str, reason: str, message: str) -> None:
        pass

    def repaired(self, resource: str, count: int) -> None:
        pass


COMMANDS: dict[str, type[Run | Render | Check | Routes | Init | Serve | Unserve]] = {
    "run": Run,
    "render": Render,
    "check": Check,
    "routes": Routes,
    "init": Init,
    "serve": Serve,
    "unserve": Unserve,
}
