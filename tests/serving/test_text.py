"""Tokens to text: whole characters, exact stop strings, the same text as decoding everything at once."""

import random

import pytest
import tiny
from llmserving.text import Detokenizer, StopScanner
from llmserving.tokenizer import ByteTokenizer

TEXTS = [*tiny.CORPUS, "plain", "   leading and trailing   ", "𝒳🧑🏽‍🚀é\u0301 mixed 中文\n\n\tend", "a\u200d😀"]


class Words:
    """The tiny model's tokenizer, as the server uses one."""

    def __init__(self):
        self._tokenizer = tiny.make_tokenizer()

    def encode(self, text):
        return self._tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids):
        return self._tokenizer.decode(ids, skip_special_tokens=True)


@pytest.fixture(scope="module", params=[Words, ByteTokenizer])
def tokenizer(request):
    return request.param()


def pieces_of(tokenizer, ids, prompt=()):
    detokenizer = Detokenizer(tokenizer, prompt)
    return [detokenizer.push(i) for i in ids]


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_text_are_the_text(tokenizer, text):
    assert "".join(pieces_of(tokenizer, tokenizer.encode(text))) == text


@pytest.mark.parametrize("text", TEXTS)
def test_no_piece_has_a_broken_character(tokenizer, text):
    assert not any("\ufffd" in piece for piece in pieces_of(tokenizer, tokenizer.encode(text)))


def test_text_goes_on_after_a_prompt_as_it_would_in_one_text(tokenizer):
    prompt, rest = tokenizer.encode("The quick brown 你"), tokenizer.encode("好 fox")
    assert "".join(pieces_of(tokenizer, rest, prompt)) == "好 fox"


def test_half_a_character_at_the_end_is_left_out(tokenizer):
    ids = tokenizer.encode("ok 😀")[:-1]
    assert "".join(pieces_of(tokenizer, ids)) == "ok "


def test_bytes_that_never_become_a_character_do_not_hold_up_the_text():
    pieces = pieces_of(ByteTokenizer(), [0xFF] * 12 + list(b"abc"))
    assert "".join(pieces).endswith("abc")
    assert sum(bool(piece) for piece in pieces[:12]) >= 2


def test_a_token_costs_the_same_at_the_end_of_a_long_text_as_at_its_beginning():
    decoded = []

    class Counting(ByteTokenizer):
        def decode(self, ids, *, special=False):
            decoded.append(len(ids))
            return super().decode(ids)

    pieces_of(Counting(), ("你好😀 abc " * 100).encode())
    assert max(decoded) < 12


def scan(stops, pieces):
    scanner, sent = StopScanner(stops), []
    for piece in pieces:
        text, stop = scanner.push(piece)
        sent.append(text)
        if stop is not None:
            return "".join(sent), stop
    return "".join([*sent, scanner.finish()]), None


def test_text_is_cut_exactly_before_a_stop_string_that_spans_pieces():
    assert scan(["\n\n"], ["one\n", "\ntwo"]) == ("one", "\n\n")


def test_what_looked_like_a_stop_string_is_sent_when_it_is_none():
    assert scan(["###"], ["a#", "#", "b", "##"]) == ("a##b##", None)


def test_the_stop_string_that_is_complete_first_wins():
    assert scan(["cd", "b"], ["abcd"]) == ("a", "b")
    assert scan(["abcd", "b"], ["abcd"]) == ("a", "b")
    assert scan(["b", "ab"], ["ab"]) == ("", "ab")


def test_a_stop_string_that_overlaps_itself_is_found():
    assert scan(["aab"], ["a", "a", "a", "b", "c"]) == ("a", "aab")


def test_the_cut_does_not_depend_on_how_the_text_came_in_pieces():
    random_ = random.Random(7)
    for _ in range(500):
        text = "".join(random_.choices("ab你", k=12))
        stops = ["".join(random_.choices("ab你", k=random_.randint(1, 4))) for _ in range(3)]
        cuts = sorted(random_.choices(range(13), k=4))
        pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, 12], strict=True)]
        assert scan(stops, pieces) == scan(stops, text)
        assert scan(stops, [text]) == scan(stops, text)


def test_no_more_than_the_beginning_of_a_stop_string_is_held_back():
    scanner = StopScanner(["stop"])
    assert scanner.push("text st") == ("text ", None)
    assert scanner.push("ill") == ("still", None)
