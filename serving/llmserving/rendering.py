"""Chat templates within bounds: beside the event loop, for some seconds, up to so many characters.

A template is the model's own program, run on what callers send. Jinja's sandbox keeps it from the machine, not from
running for ever. A process of its own could be killed, but would have to load transformers a third time (some 300 MB
and seconds); so it is a thread here, into which an exception is thrown when its time is up. That ends whatever Jinja
compiles a template to, since it is Python that goes from line to line; a single operation cannot be ended, but none is
long while texts and numbers are bounded.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECONDS = 10.0  # a conversation of 128,000 tokens takes a fraction of one
MOST_CHARACTERS = 16 * 2**20  # four times what a body can have

# The parameters of transformers' apply_chat_template and of what it calls, and what a template is given anyway: a
# caller who named one would not set an option of the template but the way in which it is applied.
RESERVED = frozenset(
    (
        *("conversation", "conversations", "messages", "tools", "documents", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "self", "kwargs"),
        *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    )
)


class ChatTemplateError(ValueError):
    """The messages cannot be put into the model's chat format; the text says why."""


class OvertimeError(Exception):
    """Thrown into the thread whose time is up."""


class Call:
    """Work that another thread can end while it runs, and not a moment later."""

    def __init__(self, work: Callable[[], str]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._thread: int | None = None

    def __call__(self) -> str:
        """Do the work; raise OvertimeError where it was ended."""
        try:
            self._thread = threading.get_ident()
            return self._work()
        finally:
            with self._lock:
                _throw(self._thread, None)  # what was thrown and has not yet come is taken back
                self._thread = None

    def end(self) -> None:
        """Throw OvertimeError into the work, if it runs."""
        with self._lock:
            if self._thread is not None:
                _throw(self._thread, OvertimeError)


def _throw(thread: int | None, error: type[Exception] | None) -> None:
    what = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread or 0), what)


async def in_time(work: Callable[[], str]) -> str:
    """Return what the work returns; raise ChatTemplateError where it takes longer than SECONDS in its thread."""
    loop = asyncio.get_running_loop()
    call = Call(work)
    timers: list[asyncio.TimerHandle] = []

    def timed() -> str:
        loop.call_soon_threadsafe(lambda: timers.append(loop.call_later(SECONDS, call.end)))
        return call()

    try:
        return await asyncio.to_thread(timed)
    except OvertimeError:
        text = f"the model's chat template was still at work on these messages after {SECONDS:g} seconds"
        raise ChatTemplateError(text) from None
    finally:
        for timer in timers:
            timer.cancel()


def joined(pieces: Iterable[str]) -> str:
    """Join the pieces of a rendering; raise ChatTemplateError before they are more than could ever be of use."""
    kept, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MOST_CHARACTERS:
            raise ChatTemplateError(f"the model's chat template makes more than {MOST_CHARACTERS} characters of this")
        kept.append(piece)
    return "".join(kept)


def prepare(tokenizer: Any) -> frozenset[str]:  # noqa: ANN401 - transformers' tokenizers have no common type
    """Bound what a tokenizer's chat template may write; return the names that it reads and a caller may set."""
    from jinja2.meta import find_undeclared_variables  # noqa: PLC0415 - comes with the models
    from transformers.utils.chat_template_utils import _compile_jinja_template  # noqa: PLC0415

    template = tokenizer.get_chat_template()
    environment = _compile_jinja_template(template).environment  # the one that it is rendered with: it is kept
    environment.concat = joined
    read: set[str] = find_undeclared_variables(environment.parse(template))
    return frozenset(read) - RESERVED
