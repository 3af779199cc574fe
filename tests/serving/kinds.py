"""One tokenizer of each kind that spells its text in a way of its own, as the server has them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import tiny
from llmserving.spelling import spelling_of

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
ENGLISH = [tiny.CORPUS[0], tiny.CORPUS[4]]


class Served:
    """A transformers tokenizer with what text is made of: `ModelTokenizer` without the files."""

    def __init__(self, tokenizer):
        self.inner = tokenizer
        self.spelling = spelling_of(tokenizer)

    def encode(self, text, *, special=False):
        return self.inner.encode(text, add_special_tokens=special)

    def decode(self, ids, *, special=False):
        return self.inner.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)


def _fast(model, decoder, *, pre=None, normalizer=None, added=()):
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoder
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.add_tokens(list(added))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def _byte_level_with_added(*more):
    tokenizer = tiny.make_tokenizer()
    tokenizer.add_tokens(["<tool_call>", "数学", *more])
    return tokenizer


def _gemma():
    """Return byte fallback that neither adds a blank nor strips one, as Gemma has it."""
    from tokenizers import decoders, normalizers

    tokenizer = tiny.make_byte_fallback_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _metaspace():
    from tokenizers import decoders, models, pre_tokenizers

    pieces = [(token, 0.0) for token in ("<unk>", "<s>", "</s>")]
    characters = sorted(set("".join(tiny.CORPUS)) - {" ", "\n"})
    pieces += [(piece, -1.0 - place / 1000) for place, piece in enumerate(["▁", "▁the", "▁dog", *characters])]
    return _fast(models.Unigram(pieces, 0), decoders.Metaspace(), pre=pre_tokenizers.Metaspace())


def _wordpiece():
    from tokenizers import decoders, models, pre_tokenizers

    characters = sorted(set("".join(tiny.CORPUS)) - {" ", "\n"})
    pieces = ["<unk>", "<s>", "</s>", "the", "dog", "n't", *characters, *(f"##{each}" for each in characters)]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    model = models.WordPiece(vocabulary, unk_token="<unk>")
    return _fast(model, decoders.WordPiece(), pre=pre_tokenizers.BertPreTokenizer())


def _end_of_word():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=300, end_of_word_suffix="</w>", special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    trained.train_from_iterator(tiny.CORPUS, trainer)
    return _fast(trained.model, decoders.BPEDecoder(), pre=pre_tokenizers.BertPreTokenizer())


def _no_decoder():
    from tokenizers import models, pre_tokenizers

    words = ["<unk>", "<s>", "</s>", *{word for text in tiny.CORPUS for word in text.split()}]
    model = models.WordLevel({word: place for place, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>")
    return _fast(model, None, pre=pre_tokenizers.WhitespaceSplit())


def _python_bytes():
    """Return a Python tokenizer that says nothing of half a character."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(extra_ids=0)


def _python_words():
    """Return a Python tokenizer whose text of a token changes with the next one: `@@` means that the word goes on."""
    from transformers import CTRLTokenizer

    with TemporaryDirectory() as folder:
        tokens = ["<unk>", *"abcdefghij", *(f"{each}@@" for each in "abcdefghij"), "ab", "cd@@", "你@@", "好"]
        vocabulary = Path(folder, "vocab.json")
        vocabulary.write_text(json.dumps({token: place for place, token in enumerate(tokens)}), encoding="utf-8")
        merges = Path(folder, "merges.txt")
        merges.write_text("#version: 0.2\na b</w>\nc d\n", encoding="utf-8")
        return CTRLTokenizer(str(vocabulary), str(merges))


def _python_sentencepiece():
    """Return a Python tokenizer over sentencepiece with byte fallback, which shows each broken byte by itself."""
    import sentencepiece
    from transformers import GPTSw3Tokenizer

    with TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(ENGLISH * 20),
            model_prefix=f"{folder}/m",
            vocab_size=330,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=1.0,
            pad_id=3,
            minloglevel=2,
        )
        return GPTSw3Tokenizer(f"{folder}/m.model")


# Added tokens with letters such as ï are decoded to U+FFFD by tokenizers itself.
RIGHTER = {"byte level with added letters": lambda: _byte_level_with_added("naïve", "Größe")}
# Those whose text is what transformers decodes, whatever the tokens are; byte fallback has a reference of its own.
EXACT = {
    "byte level": tiny.make_tokenizer,
    "byte level with added tokens": _byte_level_with_added,
    "metaspace": _metaspace,
    "wordpiece": _wordpiece,
    "end of word": _end_of_word,
    "no decoder": _no_decoder,
    "python, bytes": _python_bytes,
    "python, words": _python_words,
    "python, sentencepiece": _python_sentencepiece,
}
BYTE_FALLBACK = {"byte fallback": tiny.make_byte_fallback_tokenizer, "byte fallback, no blank first": _gemma}
# Those that can spell every text.
COMPLETE = ["byte level", "byte level with added tokens", *RIGHTER, *BYTE_FALLBACK, "python, bytes"]


@cache
def kind(name):
    """Return one of them, made once."""
    return Served({**EXACT, **BYTE_FALLBACK, **RIGHTER}[name]())
