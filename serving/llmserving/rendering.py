"""Chat templates within bounds: beside the event loop, for some seconds, up to so many characters.

A template is the model's own program, run on what callers send. Jinja's sandbox keeps it from the machine, not from
running for ever. A process of its own could be killed, but would have to load transformers a third time (some 300 MB
and seconds); so it runs in a thread (`overtime.py`), where it can be ended, since Jinja compiles it to Python. None of
its single operations is long while texts and numbers are bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

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


def joined(pieces: Iterable[str]) -> str:
    """Join the pieces of a rendering; raise ChatTemplateError before they are more than could ever be of use."""
    kept, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MOST_CHARACTERS:
            raise ChatTemplateError(f"the model's chat template makes more than {MOST_CHARACTERS} characters of this")
        kept.append(piece)
    return "".join(kept)


def prepare(tokenizer: Any, file: Path) -> frozenset[str]:  # noqa: ANN401 - transformers' have no common type
    """Bound what a tokenizer's chat template may write; return the names that it reads and a caller may set.

    Raises ValueError with the file that it is from, and the line, where it is none.
    """
    from jinja2 import TemplateSyntaxError  # noqa: PLC0415 - comes with the models

    try:
        return frozenset(_prepare(tokenizer.get_chat_template())) - RESERVED
    except TemplateSyntaxError as error:
        raise ValueError(f"{file}: its chat template cannot be read: {error.message} (line {error.lineno})") from error
    except Exception as error:
        raise ValueError(f"{file}: its chat template cannot be read: {type(error).__name__}: {error}") from error


def _prepare(template: str) -> set[str]:
    from jinja2.meta import find_undeclared_variables  # noqa: PLC0415
    from transformers.utils.chat_template_utils import _compile_jinja_template  # noqa: PLC0415

    environment = _compile_jinja_template(template).environment  # the one that it is rendered with: it is kept
    environment.concat = joined
    read: set[str] = find_undeclared_variables(environment.parse(template))
    return read
