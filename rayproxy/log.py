"""Logs: JSON on a pipe, a console on a terminal; a blocked or closed pipe never stops the daemon."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import structlog

QUEUE = 10_000  # lines held while the reader of the pipe is away; more are dropped, and counted
MAX_LINE = 500  # characters of what a library says


class _Pipe:
    """Write lines from a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str] = queue.Queue(QUEUE)
        self._dropped = 0
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def msg(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    debug = info = warning = error = critical = exception = log = msg

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if self._dropped:
                line, self._dropped = f"{line}\n({self._dropped} log lines were dropped)", 0
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more: there is nowhere to say so
                self._stream.write(line + "\n")
                self._stream.flush()
            self._lines.task_done()

    def flush(self, seconds: float) -> None:
        done = threading.Thread(target=self._lines.join, daemon=True)
        done.start()
        done.join(seconds)


class _Libraries(logging.Handler):
    """Pass on what libraries log, and Python's warnings: a line of theirs would be none of JSON, and could block."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().warning(record.getMessage()[:MAX_LINE], logger=record.name)


_pipe: _Pipe | None = None


def configure(level: str) -> None:
    """Set up structlog for the process, on its standard error output."""
    global _pipe  # noqa: PLW0603 - a process has one log
    _open_closed()
    stream = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process
    _pipe = pipe = _Pipe(stream)
    renderer: Any = structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: pipe,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)
    logging.captureWarnings(capture=True)


def _open_closed() -> None:
    """Open what was closed of the three standard streams: else the next file would be nginx's standard error."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - as the system call has it


def flush(seconds: float = 1.0) -> None:
    """Give the last lines a moment to be written."""
    if _pipe:
        _pipe.flush(seconds)
