"""Check a model without loading its numbers: python -m llmserving.loading.check --model_dir FOLDER [...].

Every name and size is compared with the architecture's, the adapter's too; the tokenizer, the chat template, the
context and the advice on sampling are read. What takes memory and time is left to the start: the numbers themselves,
and whether the adapter can be merged.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from llmserving.settings import from_arguments

if TYPE_CHECKING:
    from llmserving.settings import Settings

NOT_CHECKED = 3  # the exit status where this machine cannot tell

# How torch says that something needs the numbers themselves, which are not loaded here.
WITHOUT_NUMBERS = ("meta tensor", "'Meta' backend")


def main() -> None:
    """Read the settings as the server does; write the reason, and end with 1, where a start would be refused."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        with redirect_stdout(sys.stderr):  # the reason is all that is written to the standard output
            check(from_arguments(sys.argv[1:]))
    except Exception as error:  # noqa: BLE001 - whatever ends a start
        sys.stdout.write(f"{reason(error)}\n")
        sys.exit(NOT_CHECKED if is_undecided(error) else 1)


def reason(error: Exception) -> str:
    """Return what an error says, and its kind where it was not raised for a reader."""
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"


def is_undecided(error: BaseException | None) -> bool:
    """Return whether an error is this check's own: a package that the image may have, or numbers that it does not."""
    while error is not None:
        lacks_numbers = isinstance(error, RuntimeError) and any(words in str(error) for words in WITHOUT_NUMBERS)
        if lacks_numbers or isinstance(error, ImportError):
            return True
        error = error.__cause__
    return False


def check(settings: Settings) -> None:
    """Raise what a start would raise."""
    from llmserving.files import sentences  # noqa: PLC0415
    from llmserving.loading import (  # noqa: PLC0415 - brings torch, and reads the variable
        adapters,
        context_length,
        encoder_length,
        find_folders,
        model,
        read_advice,
        read_config,
    )
    from llmserving.tokenizer import ModelTokenizer  # noqa: PLC0415

    folders = find_folders(settings)
    config = read_config(settings, folders)
    context_length(config, settings)
    advice, trust = read_advice(folders), settings.trust_remote_code
    ModelTokenizer(*folders.tokenizers, trust=trust, stop_ids=advice.stop_ids, template=settings.chat_template)
    empty = model.load_whole(settings, folders, config, device_map="meta")
    if folders.adapter is not None:
        adapters.attach(empty, folders, settings)
    if (encoder := settings.embedding_model_dir) is not None:
        sentences.read(encoder)
        ModelTokenizer(encoder, trust=trust, chats=False)
        encoder_length(model.load_whole_encoder(encoder, settings, device_map="meta"))


if __name__ == "__main__":
    main()
