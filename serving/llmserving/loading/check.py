"""Check a model without loading its numbers: python -m llmserving.loading.check --model_dir FOLDER [...].

Every name and size is compared with the architecture's, the adapter's too; the tokenizer, the chat template, the
context and the advice on sampling are read. What takes memory and time is left to the start: the numbers themselves,
and whether the adapter can be merged.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from llmserving.settings import from_arguments

if TYPE_CHECKING:
    from llmserving.settings import Settings

NOT_CHECKED = 3  # the exit status where this machine cannot tell: a package that the image may have is not here


def main() -> None:
    """Read the settings as the server does; end with the reason where a start would be refused."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        check(from_arguments(sys.argv[1:]))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(str(error))
    except Exception as error:  # noqa: BLE001 - what only works with numbers, or with packages that are not here
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(NOT_CHECKED)


def check(settings: Settings) -> None:
    """Raise what a start would raise."""
    from llmserving.loading import (  # noqa: PLC0415 - brings torch, and reads the variable
        adapters,
        context_length,
        find_folders,
        model,
        read_advice,
        read_config,
    )
    from llmserving.tokenizer import ModelTokenizer  # noqa: PLC0415

    folders = find_folders(settings)
    config = read_config(settings, folders)
    context_length(config, settings)
    advice = read_advice(folders)
    ModelTokenizer(
        *folders.tokenizers,
        stop_ids=advice.stop_ids,
        template=settings.chat_template,
        trust=settings.trust_remote_code,
    )
    empty = model.load_whole(settings, folders, config, device_map="meta")
    if folders.adapter is not None:
        adapters.attach(empty, folders, settings)
    if settings.embedding_model_dir is not None:
        model.load_encoder(settings.embedding_model_dir, settings)


if __name__ == "__main__":
    main()
