"""Tokens to text: whole characters, the same text as decoding everything at once."""

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import BYTE_FALLBACK, COMPLETE, EXACT, RIGHTER, kind
from llmserving.text import Detokenizer, Pieces
from llmserving.tokenizer import ByteTokenizer
from sentences import SENTENCES
from tokenizers.decoders import DecodeStream

TEXTS = [*tiny.CORPUS, *SENTENCES, "plain", "   leading and trailing   ", "\n\n\tend", "a\u200d😀"]
PIECES = [*COMPLETE, "echo"]
many = settings(max_examples=200, deadline=None, database=None)


def of_kind(name):
    return ByteTokenizer() if name == "echo" else kind(name)


@pytest.fixture(params=PIECES)
def tokenizer(request):
    return of_kind(request.param)


def pieces_of(tokenizer, ids, context=()):
    detokenizer = Detokenizer(tokenizer, context)
    return [*[detokenizer.push(i) for i in ids], detokenizer.finish()]


def tokens_of(name):
    """Return a strategy for tokens: any, runs of parts of characters, and those of real text."""
    tokenizer = of_kind(name)
    size = 257 if name == "echo" else len(tokenizer.inner)
    spelt = st.sampled_from(TEXTS).map(tokenizer.encode)
    cut = st.tuples(spelt, st.integers(0, 60), st.integers(0, 60)).map(lambda given: given[0][given[1] :][: given[2]])
    return st.lists(st.one_of(st.lists(st.integers(0, size + 2), max_size=8), spelt, cut), max_size=4).map(
        lambda parts: [token for part in parts for token in part]
    )


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_text_are_the_text_and_none_has_a_broken_character(tokenizer, text):
    pieces = pieces_of(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("text", ["、猫", "你 好", " 你", "猫 and 狗", "ก็ ได้"])
def test_byte_fallback_sends_each_character_with_its_last_byte(text):
    tokenizer = kind("byte fallback")
    pieces = [piece for piece in pieces_of(tokenizer, tokenizer.encode(text)) if piece]
    assert "".join(pieces) == text
    assert max(map(len, [piece for piece in pieces if not piece.isascii()])) == 1


@pytest.mark.parametrize("name", EXACT)
@many
@given(data=st.data())
def test_the_pieces_of_any_tokens_are_what_transformers_decodes(name, data):
    tokenizer = kind(name)
    size = len(tokenizer.inner) if tokenizer.inner.is_fast else len(tokenizer.inner) - 3  # Python ones take no others
    ids = [token for token in data.draw(tokens_of(name)) if token < size + 3]
    assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(ids)


def spared(tokenizer, ids):
    """Return the tokens with each broken byte replaced by the piece of U+FFFD.

    The decoder of byte fallback shows a whole run of bytes as broken where one is. Characters that were whole have
    been sent by then, so they stay.
    """
    special = {token_id for token_id, token in tokenizer.inner.added_tokens_decoder.items() if token.special}
    broken = tokenizer.inner.convert_tokens_to_ids("\ufffd")
    found, run = [], b""

    def end():
        for character in run.decode(errors="surrogateescape"):
            bytes_ = character.encode(errors="surrogateescape")
            found.extend([broken] if "\udc80" <= character <= "\udcff" else [first + byte for byte in bytes_])

    first = tokenizer.inner.convert_tokens_to_ids("<0x00>")
    for token in (token for token in ids if token not in special and token < len(tokenizer.inner)):
        if first <= token < first + 256:
            run += bytes([token - first])
        else:
            end()
            run = b""
            found.append(token)
    end()
    return found


@pytest.mark.parametrize("name", BYTE_FALLBACK)
@many
@given(data=st.data())
def test_with_byte_fallback_they_are_that_too_but_a_whole_character_beside_a_broken_byte_stays(name, data):
    tokenizer = kind(name)
    ids = data.draw(tokens_of(name))
    assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(spared(tokenizer, ids))


@pytest.mark.parametrize("name", sorted({*EXACT, *BYTE_FALLBACK} - {"python, words"}))
@many
@given(data=st.data())
def test_an_answer_goes_on_after_its_prompt_as_it_would_in_one_text(name, data):
    """The prompt ends with a whole character, as those that are encoded do."""
    tokenizer = kind(name)
    texts = st.sampled_from(TEXTS if name in COMPLETE else tiny.CORPUS[:1])
    prompt, ids = tokenizer.encode(data.draw(texts)), tokenizer.encode(data.draw(texts))
    whole = tokenizer.decode([*prompt, *ids])
    assert tokenizer.decode(prompt) + "".join(pieces_of(tokenizer, ids, prompt)) == whole


@pytest.mark.parametrize("name", [*EXACT, *BYTE_FALLBACK])
def test_blanks_that_stand_alone_are_kept_however_many(name):
    """Sentencepiece's own decoder drops all blanks at the beginning of what it decodes."""
    tokenizer = kind(name)
    if name == "python, sentencepiece":
        a, blank = (tokenizer.inner.convert_tokens_to_ids(piece) for piece in ("o", "▁"))
        ids = [a, *[blank] * 40, a]
    else:
        ids = tokenizer.encode("dog" + " " * 40 + "dog\n\n\n dog")
    assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_special_token_between_two_bytes_does_not_part_them(tokenizer):
    first, *rest = tokenizer.encode("好")[-3:]
    special = min(tokenizer.stop_ids) if isinstance(tokenizer, ByteTokenizer) else tokenizer.inner.eos_token_id
    assert "".join(pieces_of(tokenizer, [first, special, *rest])) == "好"


def test_half_a_character_at_the_end_is_sent_once_as_the_decoder_shows_it():
    for name, shown in {"byte level": "�", "byte fallback": "���", "python, sentencepiece": "���"}.items():
        tokenizer = kind(name)
        assert pieces_of(tokenizer, tokenizer.encode("ok 😀")[:-1])[-1] == shown


def test_bytes_that_never_become_a_character_do_not_hold_up_the_text():
    pieces = pieces_of(ByteTokenizer(), [0xFF] * 12 + list(b"abc"))
    assert pieces[:12] == ["�"] * 12


@pytest.mark.parametrize("name", PIECES)
def test_a_token_costs_the_same_at_the_end_of_a_long_text_as_at_its_beginning(name, monkeypatch):
    tokenizer, decoded = of_kind(name), []
    decode = tokenizer.decode
    broken = tokenizer.encode("猫")[-1:] * 200
    monkeypatch.setattr(tokenizer, "decode", lambda ids, **more: [decoded.append(len(ids)), decode(ids, **more)][1])
    pieces_of(tokenizer, [*tokenizer.encode("你好😀 abc " * 100), *broken])
    assert max(decoded, default=0) < 40


def test_the_stream_of_tokenizers_fails_for_good_after_a_broken_byte():
    """Why text is put together here: it raises at every token from there on, and what it holds at the end is lost."""
    tokenizer = kind("byte fallback")
    stream, backend = DecodeStream(skip_special_tokens=True), tokenizer.inner.backend_tokenizer
    first = backend.token_to_id("<0x00>")
    assert [stream.step(backend, first + byte) for byte in "、".encode()] == [None, None, "、"]
    stream.step(backend, first + 0xFF)
    for token in tokenizer.encode("the dog")[-2:]:
        with pytest.raises(Exception, match="Invalid prefix"):
            stream.step(backend, token)


# Single tokens, as log-probabilities name them


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["byte level", "byte level with added tokens", *RIGHTER, *BYTE_FALLBACK, "echo"])
def test_the_bytes_of_a_texts_tokens_are_the_texts(name, text):
    tokenizer = of_kind(name)
    raw = [Pieces(tokenizer).piece(i)[1] for i in tokenizer.encode(text)]
    blank = b" " if name == "byte fallback" else b""  # it puts one before every text, and its decoder takes it away
    assert b"".join(raw) == blank + text.encode()


@pytest.mark.parametrize("name", ["byte level", "byte fallback", "metaspace", "echo"])
def test_the_text_of_a_token_keeps_its_leading_blank(name):
    tokenizer = of_kind(name)
    texts = [Pieces(tokenizer).piece(i)[0] for i in tokenizer.encode("the dog the dog")]
    assert "".join(texts).removeprefix(" ") == "the dog the dog"


def test_a_special_token_is_named():
    for name in ("byte level", "byte fallback"):
        assert Pieces(kind(name)).piece(2) == ("</s>", b"</s>")
