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
from llmserving.spelling import added_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentencepiece import SentencePieceProcessor

# Small letters without a mark on them, which no normalisation changes.
TEXTS = ("hello", "the dog and the fox", "2023", "你好", "привет")
OWN = 256  # tokens of a vocabulary that are tried where it knows none of these, as one of amino acids does not


def fault(tokenizer: Any, folder: Path) -> str | None:  # noqa: ANN401 - transformers' have no common type
    """Return what is wrong with a folder's tokenizer; None for one that reads texts as its files say."""
    kind = type(tokenizer).__name__
    beside = _beside(tokenizer)
    if not any(_knows(tokenizer, text, beside) for text in chain(TEXTS, _own(tokenizer, beside))):
        files = ", ".join(sorted(tokenizer.vocab_files_names.values()))
        return (
            "to it every text is nothing, or unknown: its vocabulary is missing, "
            f"or is none that a {kind} reads ({files})"
        )
    peer = _peer(tokenizer, folder)
    if peer and (differs := _differs(tokenizer, peer)):
        file = Path(tokenizer.vocab_file).name
        return f"transformers reads {file} by {kind}, {differs}: {_remedy(tokenizer, folder, peer)}"
    return None


def _differs(tokenizer: Any, peer: SentencePieceProcessor) -> str | None:  # noqa: ANN401
    """Return a text that is spelt otherwise than SentencePiece spells it by the same model, and both spellings."""
    for text in TEXTS:
        have, wanted = tokenizer.tokenize(text), peer.encode(text, out_type=str)
        if have != wanted and peer.unk_id() not in peer.encode(text):  # what is unknown has another name there
            return f"{text!r} as {have}, and SentencePiece as {wanted}"
    return None


def _remedy(tokenizer: Any, folder: Path, peer: SentencePieceProcessor) -> str:  # noqa: ANN401
    """Return what to do; it has been tried, since a tokenizer.json with the same fault would be believed."""
    from transformers import LlamaTokenizer  # noqa: PLC0415 - takes seconds

    if _agrees(LlamaTokenizer, folder, peer):
        save = "LlamaTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        return f"save it as tokenizer.json, by the class that it was made with, or by one that spells the same: {save}"
    for blank in ("false", "true"):
        if _agrees(type(tokenizer), folder, peer, add_prefix_space=blank == "true"):
            return f'its model wants "add_prefix_space": {blank} in {TOKENIZER_CONFIG}'
    return (
        "convert it to tokenizer.json with the version of transformers that the model was trained with, and compare "
        "its ids with SentencePiece's"
    )


def _agrees(kind: Any, folder: Path, peer: SentencePieceProcessor, **more: bool) -> bool:  # noqa: ANN401
    """Return whether a class of tokenizers spells as SentencePiece does."""
    try:
        return not _differs(kind.from_pretrained(folder, local_files_only=True, **more), peer)
    except Exception:  # noqa: BLE001 - any: it was made for another kind of file
        return False


def _own(tokenizer: Any, beside: set[int]) -> Iterator[str]:  # noqa: ANN401
    """Return the texts of tokens from all over the vocabulary."""
    ids = sorted(set(tokenizer.get_vocab().values()) - beside)
    return (tokenizer.decode([token]) for token in ids[:: len(ids) // OWN + 1])


def _knows(tokenizer: Any, text: str, beside: set[int]) -> bool:  # noqa: ANN401
    """Return whether anything of a text is left in its tokens; a blank alone is nothing."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return bool(tokenizer.decode([token for token in ids if token not in beside]).strip())


def _beside(tokenizer: Any) -> set[int]:  # noqa: ANN401
    """Return the tokens that stand beside the vocabulary: special ones, as the unknown one is, and added ones.

    Letters that are added are a vocabulary: some models of nucleotides and of characters have no other.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = set(backend.get_vocab(with_added_tokens=False).values()) if backend else range(tokenizer.vocab_size)
    added = {
        token
        for name, token in added_tokens(tokenizer).items()
        if token not in words and not (len(name) == 1 and name.isalnum())
    }
    return {*tokenizer.all_special_ids, *added}


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
