"""Whether a tokenizer that was loaded knows any words, and its own: transformers says nothing where it does not.

Where a vocabulary is missing it makes a tokenizer of the special tokens alone. Where a SentencePiece model is all that
is there, and its class is not known, it leaves out what the model does to a text first, such as the blank before it.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmserving.files.folders import TOKENIZER_CONFIG
from llmserving.files.objects import read_object
from llmserving.files.tokens import TOKENIZER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentencepiece import SentencePieceProcessor

# Small letters without a mark on them, which no normalisation changes.
TEXTS = ("hello", "the dog and the fox", "2023", "你好", "привет")
OWN = 256  # tokens of a vocabulary that are tried where it knows none of these, as one of amino acids does not


def fault(tokenizer: Any, folder: Path) -> str | None:  # noqa: ANN401 - transformers' have no common type
    """Return what is wrong with a folder's tokenizer; None for one that reads texts as its files say."""
    kind = type(tokenizer).__name__
    if not any(_knows(tokenizer, text) for text in chain(TEXTS, _own(tokenizer))):
        files = ", ".join(sorted(tokenizer.vocab_files_names.values()))
        return (
            "to it every text is nothing, or unknown: its vocabulary is missing, "
            f"or is none that a {kind} reads ({files})"
        )
    if differs := _differs(tokenizer, folder):
        return (
            f"transformers reads {Path(tokenizer.vocab_file).name} by {kind}, {differs}: save it as tokenizer.json, "
            "by the class that it was made with (of Llama's kind: LlamaTokenizer.from_pretrained(FOLDER)"
            ".save_pretrained(FOLDER))"
        )
    return None


def _differs(tokenizer: Any, folder: Path) -> str | None:  # noqa: ANN401
    """Return a text that is spelt otherwise than SentencePiece spells it by the same model, and both spellings."""
    peer = _peer(tokenizer, folder)
    if peer is None:
        return None
    for text in TEXTS:
        have, wanted = tokenizer.tokenize(text), peer.encode(text, out_type=str)
        if have != wanted and peer.unk_id() not in peer.encode(text):  # what is unknown has another name there
            return f"{text!r} as {have}, and SentencePiece as {wanted}"
    return None


def _own(tokenizer: Any) -> Iterator[str]:  # noqa: ANN401
    """Return the texts of tokens from all over the vocabulary."""
    ids = sorted(set(tokenizer.get_vocab().values()) - _added(tokenizer))
    return (tokenizer.decode([token]) for token in ids[:: len(ids) // OWN + 1])


def _knows(tokenizer: Any, text: str) -> bool:  # noqa: ANN401
    """Return whether anything of a text is left in its tokens; a blank alone is nothing."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    added = _added(tokenizer)
    return bool(tokenizer.decode([token for token in ids if token not in added]).strip())


def _added(tokenizer: Any) -> set[int]:  # noqa: ANN401
    """Return the tokens that stand beside the vocabulary; the unknown one is special."""
    return {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}


def _peer(tokenizer: Any, folder: Path) -> SentencePieceProcessor | None:  # noqa: ANN401
    """Return SentencePiece's own reading of its model, where transformers has made a tokenizer of that alone."""
    file = Path(getattr(tokenizer, "vocab_file", None) or "")
    if file.suffix != ".model" or not tokenizer.is_fast or (folder / TOKENIZER).is_file():
        return None  # what is not fast asks SentencePiece itself
    from sentencepiece import SentencePieceProcessor  # noqa: PLC0415 - transformers has just read the file with it
    from transformers.convert_slow_tokenizer import import_protobuf  # noqa: PLC0415

    try:
        model = import_protobuf().ModelProto.FromString(file.read_bytes())
    except Exception:  # noqa: BLE001 - protobuf's own: tiktoken's files have the same name
        return None
    config = folder / TOKENIZER_CONFIG
    said = read_object(config).get("add_prefix_space") if config.is_file() else None
    if isinstance(said, bool):
        model.normalizer_spec.add_dummy_prefix = said
    return SentencePieceProcessor(model_proto=model.SerializeToString())
