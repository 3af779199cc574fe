"""Stop strings: an answer ends exactly before the first one, special tokens in it included."""

import random

import pytest
import tiny
import torch
from llmserving.engines.echo import EchoEngine
from llmserving.server import assemble
from llmserving.settings import from_mapping
from llmserving.stops import StopScanner, find_stops
from llmserving.tokenizer import ModelTokenizer, SpecialTokens

TEXT = "/v1/completions"
SAID = "One two<|user|>Hi<|assistant|><|user|> there<unk></s>"


def scanner_of(stops, special=()):
    return StopScanner(find_stops(stops, SpecialTokens(dict(special))))


def scan(stops, pieces):
    scanner, sent = scanner_of(stops), []
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
    scanner = scanner_of(["stop"])
    assert scanner.push("text st") == ("text ", None)
    assert scanner.push("ill") == ("still", None)


def test_a_mark_stands_for_a_special_token_that_a_stop_string_names_and_is_never_sent():
    scanner = scanner_of(["b<eos>"], {"<eos>": 7, "<pad>": 8})
    assert scanner.mark(8) == ""
    assert scanner.push(f"a{scanner.mark(7)}b") == ("a", None)
    assert scanner.push("c" + scanner.mark(7)) == ("bc", None)
    assert scanner.push("ab") == ("a", None)
    assert scanner.push(scanner.mark(7)) == ("", "b<eos>")


def test_a_special_token_whose_name_is_a_part_of_anothers_is_not_taken_for_it():
    scanner = scanner_of(["<a><b>"], {"<a>": 1, "<b>": 2, "<a><b>": 3})
    assert scanner.push(scanner.mark(1) + scanner.mark(2)) == ("", None)
    assert scanner.push(scanner.mark(3)) == ("", "<a><b>")


def test_a_special_tokens_name_in_letters_is_a_stop_string_too():
    assert scanner_of(["x<eos>"], {"<eos>": 7}).push("ax<eos>") == ("a", "x<eos>")


class Counted(SpecialTokens):
    """Count how often names are looked for, and fail where all of them are gone through."""

    sought = 0

    def within(self, text):
        self.sought += 1
        return super().within(text)

    def __iter__(self):
        raise AssertionError("every special token is looked at")

    keys = items = values = __iter__


def test_the_special_tokens_that_a_text_names_are_found_without_a_look_at_each_that_there_is():
    special = Counted({f"<{place}>": place for place in range(65536)} | {"<|end|>": 65536})
    assert sorted(special.within("a<7><<65535>><|end|><70000>")) == ["<65535>", "<7>", "<|end|>"]


@pytest.fixture(scope="module", params=[tiny.make_tokenizer, tiny.make_byte_fallback_tokenizer])
def tokenizer(request, tmp_path_factory):
    """Return a tokenizer as a model's folder has it, in GPT-2's style and in Llama 2's."""
    folder = tmp_path_factory.mktemp("tokenizer")
    request.param().save_pretrained(folder)
    return ModelTokenizer(folder, trust=False)


@pytest.fixture
def running(tokenizer, serve):
    """Serve what says again what it is told, in a model's tokens."""
    engine = EchoEngine(stop_id=tokenizer.vocabulary_size - 1)
    return serve(assemble(from_mapping({"engine": "echo"}), tokenizer, engine))


def transformers_stops(tokenizer, ids, stops):
    """Return after how many tokens transformers stops, None where it does not."""
    from transformers.generation.stopping_criteria import StopStringCriteria

    criterion = StopStringCriteria(tokenizer._tokenizer, stops)
    return next((count for count in range(1, len(ids) + 1) if criterion(torch.tensor([ids[:count]]), None)[0]), None)


STOPS = [
    ["<|user|>"],
    ["<|assistant|>"],
    ["</s>"],
    ["zz", "<|assistant|>"],
    ["two<|user|>"],
    ["two<|user|>Hi"],
    ["<|user|>H"],
    ["Hi<|assistant|><|user|>"],
    ["<|assistant|><|user|>"],
    ["<|assistant|><|user|> the"],
    ["<unk></s>"],
    ["<|user|><|assistant|>", "the"],
]


@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_an_answer_ends_at_special_tokens_where_transformers_ends_it(running, tokenizer, stops):
    ids = tokenizer.encode(SAID, special=False)
    count = transformers_stops(tokenizer, ids, stops)
    said = tokenizer.decode(ids[:count], special=True)
    stop = None if count is None else next(stop for stop in stops if stop in said)
    said = said if stop is None else said[: said.index(stop)]
    for name in tokenizer.special_tokens:
        said = said.replace(name, "")
    body = {"prompt": ids, "stop": stops, "max_tokens": 99}
    answer = running.post(TEXT, body).json()
    choice = answer["choices"][0]
    assert (choice["text"].strip(), choice["finish_reason"], choice["stop_reason"]) == (said.strip(), "stop", stop)
    assert answer["usage"]["completion_tokens"] == (count or len(ids))
    events = [event["choices"][0] for event in running.events(TEXT, {**body, "stream": True})]
    assert "".join(event["text"] for event in events) == choice["text"]
    assert (events[-1]["finish_reason"], events[-1]["stop_reason"]) == ("stop", stop)


@pytest.mark.parametrize("stops", [["<|user|>", "zz"], []], ids=str)
def test_special_tokens_are_looked_for_once_a_stop_string_however_many_answers_are_wanted(
    running, tokenizer, monkeypatch, stops
):
    special = Counted(tokenizer.special_tokens)
    monkeypatch.setattr(tokenizer, "special_tokens", special)
    body = {"prompt": ["Hi there", "One two"], "stop": stops, "n": 4, "max_tokens": 4}
    assert len(running.post(TEXT, body).json()["choices"]) == 8
    assert special.sought == len(stops)


def test_a_special_token_that_is_a_stop_string_ends_an_answer_that_ignores_the_models_own_end(running, tokenizer):
    ids = tokenizer.encode("a</s>b<|user|>c", special=False)
    body = {"prompt": ids, "stop": "<|user|>", "ignore_eos": True, "max_tokens": 99}
    assert running.post(TEXT, body).json()["choices"][0]["text"].split() in (["ab"], ["a", "b"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
def test_a_chat_ends_at_a_special_token_as_a_completion_does(running, path):
    body = {"messages": [{"role": "user", "content": "Hi"}], "stop": ["<|assistant|>"], "ignore_eos": True}
    choice = running.post(path, body).json()["choices"][0]
    assert (choice["message"]["content"].strip(), choice["stop_reason"]) == ("Hi", "<|assistant|>")
