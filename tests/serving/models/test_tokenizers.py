"""Tokenizers from files, as checkpoints have them: what arrives in pieces is what transformers decodes."""

import json
import random

import kinds
import pytest
import sentencepiece
from llmserving.text import Detokenizer, Pieces
from llmserving.tokenizer import ModelTokenizer
from sentences import SENTENCES

pytestmark = pytest.mark.models

# What tokenizer_config.json names for a SentencePiece file with byte fallback (Llama 2, Mistral, Gemma), and whether
# the file is to put a blank before the first word: the last two do not.
CLASSES = {
    **dict.fromkeys(("LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer"), True),
    **dict.fromkeys(("GemmaTokenizer", "PreTrainedTokenizerFast"), False),
}
SAVED = ["byte level", "byte level with added tokens", "metaspace", "wordpiece", "end of word", "byte fallback"]


def read(folder):
    return ModelTokenizer(folder, trust=False)


def pieces(tokenizer, ids):
    detokenizer = Detokenizer(tokenizer)
    return [*map(detokenizer.push, ids), detokenizer.finish()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return SentencePiece files that know English and spell everything else in bytes, by whether a blank is first."""
    folder = tmp_path_factory.mktemp("pieces")
    for blank in (True, False):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(kinds.ENGLISH * 20),
            model_prefix=f"{folder}/{blank}",
            vocab_size=330,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=blank,
            minloglevel=2,
        )
    return {blank: folder / f"{blank}.model" for blank in (True, False)}


@pytest.fixture(params=CLASSES)
def of_class(request, trained, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(trained[CLASSES[request.param]].read_bytes())
    config = {"tokenizer_class": request.param, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return read(tmp_path)


@pytest.fixture(params=SAVED)
def saved(request, tmp_path):
    kinds.kind(request.param).inner.save_pretrained(tmp_path)
    return read(tmp_path)


@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentencepiece_file_with_byte_fallback_is_read_whole_by_every_class(of_class, text):
    ids = of_class.encode(text, special=False)
    found = pieces(of_class, ids)
    assert "".join(found) == of_class.decode(ids) == text
    assert max(len(piece) for piece in found if not piece.isascii()) == 1
    raw = b"".join(Pieces(of_class).piece(token)[1] for token in ids).decode()
    assert raw.removeprefix(" ") == text


def test_what_was_saved_is_read_as_transformers_reads_it(saved):
    draw = random.Random(1)
    for text in SENTENCES:
        ids = saved.encode(text, special=False)
        assert "".join(pieces(saved, ids)) == saved.decode(ids)
        others = [draw.randrange(saved.vocabulary_size) for _ in range(20)]
        if (
            saved.spelling.errors == "replace"
        ):  # byte fallback takes whole characters back: `test_text` has its reference
            assert "".join(pieces(saved, others)) == saved.decode(others)
