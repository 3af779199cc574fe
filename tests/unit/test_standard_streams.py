"""Standard input, output and error: UTF-8 whatever the locale says, and perhaps closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rayproxy.__main__ import main
from tests.support import golden

PUBLISHED, DOCUMENTED = (str(golden.INPUTS / name) for name in ("published.yaml", "documented.yaml"))


def printed(file: str, *words: str, stdin: bytes = b"", redirection: str = "", **variables: str):
    """Return what came of a dry run with that redirection, as a shell has it."""
    rayproxy = [sys.executable, "-m", "rayproxy", "deploy", "-f", file, "--kuberay", "1.7", "--dry-run", *words]
    command = ["sh", "-c", f'"$@" {redirection}', "sh", *rayproxy]
    environment = os.environ | {"PYTHONUNBUFFERED": ""} | variables
    return subprocess.run(command, input=stdin, capture_output=True, check=False, env=environment)


def failed_in_one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return that line."""
    assert done.returncode == 1
    *notes, last = done.stderr.decode().splitlines()
    assert all(line.startswith("note: ") for line in notes), done.stderr
    return last


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("output", ["yaml", "json"])
def test_a_manifest_is_utf_8_whatever_the_locale_says(encoding: str, output: str):
    done = printed(PUBLISHED, "--model-name", "模型-é", "-o", output, PYTHONIOENCODING=encoding)

    assert done.returncode == 0, done.stderr
    assert "模型-é" in done.stdout.decode("utf-8")


def test_a_checkpoint_from_standard_input_is_utf_8_as_one_in_a_file():
    document = "# 模型\n" + (golden.INPUTS / "published.yaml").read_text(encoding="utf-8")

    done = printed("-", stdin=document.encode("utf-8"), PYTHONIOENCODING="ascii")

    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["kind"] == "RayService"


def test_a_manifest_for_a_standard_output_that_is_closed_is_a_failure_in_one_line():
    said = failed_in_one_line(printed(PUBLISHED, redirection=">&-"))
    assert said == "rayproxy deploy: standard output is closed: nobody can read the RayService"


def test_a_manifest_for_which_the_disk_has_no_room_is_a_failure_in_one_line():
    said = failed_in_one_line(printed(PUBLISHED, redirection=">/dev/full"))
    assert said == "rayproxy deploy: [Errno 28] No space left on device"


def test_a_reader_that_has_gone_is_a_failure_in_one_line():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "rayproxy", "deploy", "-f", PUBLISHED, "--kuberay", "1.7", "--dry-run"]
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, env=environment)
    finally:
        os.close(writing)
    assert failed_in_one_line(done) == "rayproxy deploy: [Errno 32] Broken pipe"


def test_a_checkpoint_from_a_standard_input_that_is_closed_is_refused():
    said = failed_in_one_line(printed("-", redirection="<&-"))
    assert said == "rayproxy deploy: cannot read -: standard input is closed"


def test_notes_that_nobody_can_read_keep_no_manifest_back():
    heard, unheard = printed(DOCUMENTED), printed(DOCUMENTED, redirection="2>&-")

    assert heard.stderr.startswith(b"note: ")
    assert (unheard.returncode, unheard.stdout) == (0, heard.stdout)


def test_an_error_that_nobody_can_read_does_not_stand_where_a_manifest_would():
    done = printed("nowhere.yaml", redirection="2>&-")

    assert (done.returncode, done.stdout) == (1, b"")


def test_the_exit_code_of_a_difference_counts_where_nobody_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdout", None)
    (tmp_path / "manifests").mkdir()
    words = ["--source", "manifests", "--manifests", str(tmp_path / "manifests"), "--state-dir", str(tmp_path)]

    assert main(["render", "--diff", *words]) == 1
