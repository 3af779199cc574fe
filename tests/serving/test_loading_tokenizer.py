"""The tokenizer and the chat template: the checkpoint's, else the base's; and the user's words are in the prompt."""

import base64
import json
import logging
import sys

import loads
import pytest
import tiny
from llmserving import chat_template
from llmserving.chat_template import Form, find_form
from llmserving.files import folders
from llmserving.loading import probes
from llmserving.tokenizer import ChatTemplateError, ModelTokenizer

HI = [{"role": "user", "content": "hi there"}]
TALK = [*HI, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "and now"}]
PARTS = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}</s>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRINGS = tiny.TEMPLATE
BOTH = (
    "{% for message in messages %}{% if message.content is string %}{{ message.content }}"
    "{% else %}{{ message.content[0].text }}{% endif %}{% endfor %}"
)
NEITHER = "{% for message in messages %}<|{{ message.role }}|>{{ message.text }}</s>{% endfor %}"
FIRST_ALONE = "Q: {{ messages[0].content }} A:"
LAST_ALONE = "Q: {{ messages[-1].content }} A:"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + STRINGS
SYSTEM_FIRST = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}" + STRINGS
ALWAYS = "{{ raise_exception('roles must alternate') }}"


def load(folder, *others, template=None):
    return ModelTokenizer(folder, *others, template=template, trust=False)


@pytest.fixture
def templated(base, tmp_path):
    def make(template):
        (tmp_path / "template.jinja").write_text(template)
        return load(base, template=tmp_path / "template.jinja")

    return make


def prompt(tokenizer, messages):
    return tokenizer.render(messages, {})


@pytest.mark.parametrize("template", [PARTS, STRINGS, BOTH, NO_SYSTEM], ids=["parts", "strings", "both", "no system"])
def test_what_is_said_is_in_the_prompt_whatever_form_the_template_takes(templated, template):
    said = prompt(templated(template), TALK)
    assert all(message["content"] in said for message in TALK)


def test_a_template_of_parts_is_rendered_as_with_parts_by_transformers(base, templated):
    from transformers import AutoTokenizer

    peer = AutoTokenizer.from_pretrained(base)
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in TALK]
    expected = peer.apply_chat_template(parts, chat_template=PARTS, add_generation_prompt=True, tokenize=False)
    assert prompt(templated(PARTS), TALK) == expected


def test_two_questions_to_a_template_of_parts_have_two_prompts_over_http(base, tmp_path, serve):
    (tmp_path / "template.jinja").write_text(PARTS)
    running = serve(model_dir=base, chat_template=tmp_path / "template.jinja", engine="generate")
    ids = [
        running.post("/tokenize", {"messages": [{"role": "user", "content": content}]}).json()["tokens"]
        for content in ("one", [{"type": "text", "text": "two"}])
    ]
    shown = [running.post("/detokenize", {"tokens": each}).json()["prompt"] for each in ids]
    assert "one" in shown[0]
    assert "two" in shown[1]


def test_a_template_that_drops_what_the_user_says_refuses_the_call_and_not_the_completion(base, tmp_path, serve):
    (tmp_path / "template.jinja").write_text(NEITHER)
    running = serve(model_dir=base, chat_template=tmp_path / "template.jinja", engine="generate")
    calls = {
        "/v1/chat/completions": {"messages": HI},
        "/inference": {"input": "hi"},
        "/embeddings/QuestionAnswer": {"prompt": HI},
    }
    for path, body in calls.items():
        response = running.post(path, {**body, "max_tokens": 2})
        assert response.status_code == 400
        assert "leaves out what the user says" in response.json()["error"]["message"]
    assert running.post("/v1/completions", {"prompt": "hi", "max_tokens": 2}).status_code == 200


def test_a_template_that_is_dropped_is_an_error_in_the_log(templated, caplog):
    templated(NEITHER)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("template", [FIRST_ALONE, LAST_ALONE], ids=["first", "last"])
def test_a_template_of_one_question_refuses_a_second(templated, template):
    tokenizer = templated(template)
    assert prompt(tokenizer, HI) == "Q: hi there A:"
    with pytest.raises(ChatTemplateError, match="one message of the user's"):
        tokenizer.render(TALK, {})


def test_a_template_that_wants_a_system_message_is_tried_with_one(templated):
    tokenizer = templated(SYSTEM_FIRST)
    assert "hi there" in prompt(tokenizer, [{"role": "system", "content": "be kind"}, *HI])
    with pytest.raises(ChatTemplateError, match="system first"):
        tokenizer.render(HI, {})


def test_a_template_that_refuses_everything_says_so_itself(templated, caplog):
    tokenizer = templated(ALWAYS)
    with pytest.raises(ChatTemplateError, match="roles must alternate"):
        tokenizer.render(HI, {})
    assert "takes none of the conversations" in caplog.text


def test_a_template_that_drops_the_other_roles_is_told_of_in_the_log(templated, caplog):
    templated("{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}")
    assert "leaves out what the assistant has said" in caplog.text
    assert "leaves out what a system message says" in caplog.text


def test_a_template_that_breaks_on_a_form_is_tried_with_the_other():
    def render(messages):
        return "".join(message["content"][0]["text"] for message in messages)

    assert find_form(render) == Form(parts=True)


# Whose tokenizer


@pytest.fixture
def checkpoint(adapter, tmp_path):
    folder = loads.copy(adapter, tmp_path / "checkpoint")
    tiny.make_tokenizer().save_pretrained(folder)
    return folder


def test_a_checkpoint_without_a_chat_template_takes_the_bases(base, checkpoint, serve, caplog):
    (checkpoint / "chat_template.jinja").unlink()
    running = serve(model_dir=base, checkpoint_dir=checkpoint, engine="generate")
    assert f"{checkpoint} has no chat template: the one of {base} is taken" in caplog.text
    ids = running.post("/tokenize", {"messages": HI}).json()["tokens"]
    tokenizer = load(base)
    assert ids == tokenizer.encode(tokenizer.render(HI, {}), special=False)
    whole = {"input": "hi there", "max_tokens": 1}
    assert running.post("/inference", whole).json()["tokenLength"] == str(len(ids) + 1)


def test_a_checkpoints_own_template_wins(base, checkpoint):
    (checkpoint / "chat_template.jinja").write_text("Q: {{ messages[0].content }} A:")
    assert prompt(load(checkpoint, base), HI) == "Q: hi there A:"


def test_the_template_of_a_processor_is_taken_where_the_tokenizer_has_none(base, checkpoint):
    """As LLaVA's checkpoints have it: transformers' processor reads the file, its tokenizer does not."""
    write = (checkpoint / "chat_template.json").write_text
    write(json.dumps({"chat_template": "P: {{ messages[0].content }} A:"}))
    assert prompt(load(checkpoint), HI) != "P: hi there A:"
    (checkpoint / "chat_template.jinja").unlink()
    assert prompt(load(checkpoint, base), HI) == "P: hi there A:"
    write(json.dumps({"chat_template": MISSPELT}))
    with pytest.raises(ValueError, match=rf"^{checkpoint}/chat_template\.json: .*\(line 3\)"):
        load(checkpoint)
    loads.edit_json(checkpoint / "tokenizer_config.json", chat_template="C: {{ messages[0].content }}")
    assert prompt(load(checkpoint), HI) == "C: hi there"


def test_a_tokenizer_that_cannot_be_loaded_is_the_bases(base, checkpoint, caplog):
    (checkpoint / "tokenizer.json").unlink()
    tokenizer = load(checkpoint, base)
    assert tokenizer.encode("The quick") == load(base).encode("The quick")
    assert f"the tokenizer of {base} is taken" in caplog.text


TOOL = {"id": 400, "content": "<tool>"}
ADDED = {
    "added_tokens.json": {"<tool>": 400},
    "tokenizer_config.json": {"added_tokens_decoder": {"2": {"content": "</s>"}, "400": {"content": "<tool>"}}},
    "tokenizer.json": {"added_tokens": [{"id": 2, "content": "</s>"}, TOOL]},
}


@pytest.mark.parametrize("name", ADDED)
def test_a_tokenizer_that_cannot_be_loaded_is_refused_where_its_files_name_tokens_that_the_base_lacks(
    base, checkpoint, name
):
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / name).write_text(json.dumps(ADDED[name]))
    said = rf"(?s)checkpoint: its tokenizer cannot be loaded: .*; the tokenizer of {base} .*: it lacks <tool>, or has"
    with pytest.raises(ValueError, match=said):
        load(checkpoint, base)


def test_the_bases_tokenizer_takes_no_place_where_a_token_has_another_id_in_it(base, checkpoint):
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "added_tokens.json").write_text('{"<|user|>": 5, "<|system|>": 3}')
    with pytest.raises(ValueError, match=r"cannot take its place: it lacks <\|user\|>, or has other ids"):
        load(checkpoint, base)


@pytest.mark.parametrize("content", ["{", "[]", '{"added_tokens": [7]}'])
def test_a_file_of_tokens_that_cannot_be_read_is_no_file_without_tokens(base, checkpoint, content):
    (checkpoint / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"checkpoint/tokenizer\.json: "):
        load(checkpoint, base)


def test_where_neither_tokenizer_can_be_loaded_both_reasons_are_said(base, checkpoint, tmp_path):
    (checkpoint / "tokenizer.json").unlink()
    broken = loads.copy(base, tmp_path / "base")
    (broken / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=rf"(?s){checkpoint}: its tokenizer cannot .*; {broken}: its tokenizer can"):
        load(checkpoint, broken)


def test_a_base_without_a_vocabulary_lends_its_chat_template_all_the_same(base, checkpoint, tmp_path):
    bare = loads.copy(base, tmp_path / "base")
    (bare / "tokenizer.json").unlink()
    (checkpoint / "chat_template.jinja").unlink()
    tokenizer = load(checkpoint, bare)
    assert tokenizer.encode("The quick") == load(base).encode("The quick")
    assert prompt(tokenizer, HI) == prompt(load(base), HI)


def test_a_base_whose_files_are_broken_does_not_refuse_a_checkpoint_that_has_its_own(
    base, checkpoint, tmp_path, caplog
):
    broken = loads.copy(base, tmp_path / "base")
    (broken / "chat_template.jinja").write_bytes(b"\xff\xfe")
    (checkpoint / "chat_template.jinja").unlink()
    assert not load(checkpoint, broken).has_chat_template
    assert f"no chat template is taken from {broken}: {broken}/chat_template.jinja: " in caplog.text


def test_a_checkpoint_that_says_its_template_and_has_no_vocabulary_keeps_the_template(base, checkpoint, caplog):
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "chat_template.jinja").write_text("Q: {{ messages[0].content }} A:")
    assert prompt(load(checkpoint, base), HI) == "Q: hi there A:"
    assert f"the tokenizer of {base} is taken, with the chat template of {checkpoint}" in caplog.text


SAID = {
    "string": "Q: {{ messages[0].content }} A:",
    "list": [
        {"name": "tool_use", "template": "T"},
        {"name": "default", "template": "Q: {{ messages[0].content }} A:"},
    ],
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_a_template_in_any_file_of_the_checkpoint_goes_with_a_tokenizer_that_is_lent(base, checkpoint, name, said):
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "chat_template.jinja").unlink()
    (checkpoint / name).write_text(json.dumps({"chat_template": said}))
    assert prompt(load(checkpoint, base), HI) == "Q: hi there A:"


@pytest.mark.parametrize("said", [[7], [{"name": "default"}]], ids=str)
def test_templates_by_name_that_have_none_are_refused_with_their_file(base, checkpoint, said):
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "chat_template.jinja").unlink()
    (checkpoint / "chat_template.json").write_text(json.dumps({"chat_template": said}))
    with pytest.raises(ValueError, match=rf"^{checkpoint}/chat_template\.json: its chat templates have no"):
        load(checkpoint, base)


def test_the_log_says_that_the_bases_template_comes_with_its_tokenizer(base, checkpoint, caplog):
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "chat_template.jinja").unlink()
    load(checkpoint, base)
    assert f"the tokenizer of {base} is taken, with the chat template of {base}" in caplog.text


def test_an_answer_ends_where_the_checkpoint_says_though_its_tokenizer_is_lent(base, checkpoint):
    (checkpoint / "tokenizer.json").unlink()
    loads.edit_json(checkpoint / "tokenizer_config.json", eos_token="<|user|>")
    assert load(checkpoint, base).stop_ids == {4}
    loads.edit_json(checkpoint / "tokenizer_config.json", eos_token={"content": "<|im_end|>"})
    with pytest.raises(ValueError, match=r"cannot take its place: it lacks <\|im_end\|>, or has other ids"):
        load(checkpoint, base)


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json"])
def test_an_adapters_folder_that_has_a_template_and_no_tokenizer_says_how_a_chat_is_written(
    base, adapter, tmp_path, serve, caplog, name
):
    folder = loads.copy(adapter, tmp_path / "adapter")
    said = "Q: {{ messages[0].content }} A:"
    (folder / name).write_text(json.dumps({"chat_template": said}) if name.endswith("json") else said)
    running = serve(model_dir=base, checkpoint_dir=folder, engine="generate")
    ids = running.post("/tokenize", {"messages": HI}).json()["tokens"]
    assert ids == load(base).encode("Q: hi there A:", special=False)
    assert (
        f"{folder} has no tokenizer; the tokenizer of {base} is taken, with the chat template of {folder}"
        in caplog.text
    )


def test_who_reads_files_alone_is_led_to_the_folder_that_has_the_tokenizers(base, adapter, tmp_path):
    folder = loads.copy(adapter, tmp_path / "adapter")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    found = folders.find(base, folder)
    assert (found.tokenizers, found.tokenizer) == ((folder, base), base)
    (folder / "tokenizer.json").write_text("{}")
    assert folders.find(base, folder).tokenizer == folder


# A tokenizer without its words

EMPTY = [
    *("LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer"),
    *("Qwen2Tokenizer", "GPT2Tokenizer", "GPTNeoXTokenizer", "BertTokenizer", "XLMRobertaTokenizer"),
    *("T5Tokenizer", "MBartTokenizer", "PreTrainedTokenizerFast", "MPNetTokenizer"),
]


@pytest.fixture
def of_class(tmp_path):
    """Return a function that makes the folder of a tokenizer of a class, without a vocabulary."""

    def make(name, **more):
        folder = tmp_path / "of_class"
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **more}))
        (folder / "config.json").write_text('{"model_type": "llama"}')
        return folder

    return make


@pytest.mark.parametrize("name", EMPTY)
def test_a_tokenizer_whose_vocabulary_is_missing_is_refused(of_class, name):
    """Transformers makes one that knows its special tokens alone, and reads every text as nothing or as unknown."""
    with pytest.raises(ValueError, match=r"of_class: its tokenizer cannot be loaded: "):
        load(of_class(name))


def test_the_files_that_a_vocabulary_is_read_from_are_named(of_class):
    with pytest.raises(ValueError, match=r"vocabulary is missing.* \(tokenizer\.json, tokenizer\.model\)$"):
        load(of_class("LlamaTokenizer"))


@pytest.mark.parametrize("count", [1, 12])  # Qwen 3 has 12
def test_added_tokens_are_no_vocabulary(of_class, count):
    added = {str(3 + n): {"content": f"<tool {n}>", "special": False} for n in range(count)}
    with pytest.raises(ValueError, match="its vocabulary is missing"):
        load(of_class("LlamaTokenizer", added_tokens_decoder=added))


def test_a_vocabulary_that_is_missing_is_the_bases(base, of_class, caplog):
    folder = of_class("LlamaTokenizer")
    tokenizer = load(folder, base)
    assert tokenizer.encode("The quick") == load(base).encode("The quick")
    assert f"that a LlamaTokenizer reads (tokenizer.json, tokenizer.model); the tokenizer of {base} is" in caplog.text


def save_words(folder, words, added=()):
    """Save a tokenizer of whole words, parted by blanks."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, **words}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    fast.add_tokens(list(added))
    fast.save_pretrained(folder)


def test_a_vocabulary_of_no_words_of_ours_is_one(tmp_path):
    """Of amino acids, say: whatever stands in it counts."""
    save_words(tmp_path, {"ACG": 1, "GCT": 2})
    assert load(tmp_path).encode("GCT ACG") == [2, 1]


def test_letters_that_are_all_added_are_a_vocabulary(tmp_path):
    """As models of nucleotides and of characters have it."""
    save_words(tmp_path, {}, added="ACGTN")
    assert load(tmp_path).encode("GATTACA") == [3, 1, 4, 4, 1, 2, 1]


def test_words_that_are_listed_as_added_tokens_too_are_a_vocabulary(tmp_path):
    """As models of SMILES have it."""
    words = {"Br": 1, "[C@H]": 2, "Cl": 3}
    save_words(tmp_path, words, added=words)
    assert load(tmp_path).encode("[C@H] Cl Br") == [2, 3, 1]


# Mistral's own files, where mistral_common is installed


class OfMistralCommon:
    """What transformers' MistralCommonBackend has of a tokenizer: its added_tokens_decoder is no mapping.

    It has no get_added_vocab and no backend_tokenizer, and cannot be imported without mistral_common.
    """

    eos_token_id, vocab_size = 2, 6
    all_special_ids, all_special_tokens = [0, 1, 2], ["<unk>", "<s>", "</s>"]
    chat_template = None

    def __call__(self, text):
        return {"input_ids": self.encode(text)}

    def get_vocab(self):
        return {"<unk>": 0, "<s>": 1, "</s>": 2, "hello": 3, "dog": 4, "fox": 5}

    def encode(self, text, *, add_special_tokens=True):
        return [1] * add_special_tokens + [self.get_vocab().get(word, 0) for word in text.split()]

    def decode(self, ids):
        return " ".join(list(self.get_vocab())[token] for token in ids)

    def added_tokens_decoder(self):
        raise NotImplementedError


@pytest.fixture
def mistral_common(monkeypatch):
    """Let transformers take a folder that has tekken.json as it does where mistral_common is installed."""
    from transformers import AutoTokenizer

    whole = AutoTokenizer.from_pretrained

    def from_pretrained(folder, *, mistral_format=None, **how):
        if mistral_format is None and (folder / "tekken.json").is_file():
            return OfMistralCommon()
        return whole(folder, mistral_format=mistral_format, **how)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", from_pretrained)


@pytest.mark.usefixtures("mistral_common")
def test_a_tokenizer_of_mistral_common_is_served(tmp_path):
    (tmp_path / "tekken.json").write_text("{}")
    tokenizer = load(tmp_path)
    assert tokenizer.encode("hello fox") == [1, 3, 5]
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}


@pytest.mark.usefixtures("mistral_common")
def test_a_tekken_json_beside_a_tokenizer_json_changes_nothing(base, checkpoint):
    """Mistral_common's tokenizer has no chat template."""
    (checkpoint / "tekken.json").write_text("{}")
    tokenizer = load(checkpoint)
    assert prompt(tokenizer, HI) == prompt(load(base), HI)
    assert tokenizer.encode("The quick") == load(base).encode("The quick")


# A template that is none

MISSPELT = "{% for message in messages %}\n{{ message.content }}\n{% endfour %}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
NO_TEMPLATES = {
    MISSPELT: r"unknown tag 'endfour'.* \(line 3\)$",
    "{{ messages | no_such_filter }}": r"No filter named 'no_such_filter'.* \(line 1\)$",
    "{{" + "(" * 5000: "RecursionError",
}


@pytest.mark.parametrize("template", NO_TEMPLATES, ids=["tag", "filter", "depth"])
def test_a_template_that_is_none_refuses_the_start_with_its_file_and_line(base, checkpoint, template):
    refusal = rf"chat_template\.jinja: its chat template cannot be read: .*{NO_TEMPLATES[template]}"
    (checkpoint / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match=refusal) as refused:
        load(checkpoint, base)
    assert "\n" not in str(refused.value)


def test_the_file_of_a_template_that_is_none_is_the_one_that_it_is_from(base, checkpoint, tmp_path):
    lender = loads.copy(base, tmp_path / "base")
    (lender / "chat_template.jinja").write_text(MISSPELT)
    (checkpoint / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=rf"^{lender}/chat_template\.jinja: .*\(line 3\)"):
        load(checkpoint, lender)
    (tmp_path / "mine.jinja").write_text(MISSPELT)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/mine\.jinja: .*\(line 3\)"):
        load(base, template=tmp_path / "mine.jinja")
    loads.edit_json(checkpoint / "tokenizer_config.json", chat_template=MISSPELT)
    with pytest.raises(ValueError, match=rf"^{checkpoint}/tokenizer_config\.json: .*\(line 3\)"):
        load(checkpoint, base)


def test_a_template_that_is_no_text_is_refused_with_its_file(base, tmp_path):
    (tmp_path / "mine.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"mine\.jinja: a chat template is text in UTF-8"):
        load(base, template=tmp_path / "mine.jinja")


def test_a_template_without_an_end_refuses_the_start_and_does_not_hold_it_up(base, tmp_path, monkeypatch):
    monkeypatch.setattr(chat_template, "SECONDS", 0.2)
    (tmp_path / "mine.jinja").write_text(ENDLESS)
    with pytest.raises(ValueError, match=r"mine\.jinja: its chat template was still at work on three messages after"):
        load(base, template=tmp_path / "mine.jinja")


def test_an_encoders_chat_template_is_not_looked_at(base, tmp_path, serve):
    folder = loads.copy(base, tmp_path / "encoder")
    (folder / "chat_template.jinja").write_text(MISSPELT)
    running = serve(model_dir=base, embedding_model_dir=folder, engine="generate")
    assert running.post("/v1/embeddings", {"input": "hi"}).status_code == 200


def train(folder, name="tokenizer.model", **how):
    """Write a SentencePiece model: as Llama 2's is, unless told otherwise."""
    import sentencepiece

    llama = {"model_type": "bpe", "byte_fallback": True, "vocab_size": 400, "normalization_rule_name": "identity"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(tiny.CORPUS * 20),
        model_prefix=str(folder / name.removesuffix(".model")),
        character_coverage=0.98,
        minloglevel=2,
        **(how or llama),
    )


GEMMA = {"model_type": "bpe", "byte_fallback": True, "vocab_size": 400, "add_dummy_prefix": False}
UNIGRAM = {"model_type": "unigram", "vocab_size": 190, "hard_vocab_limit": False}


@pytest.fixture
def pieces(of_class):
    """Return a folder with a SentencePiece model and no tokenizer.json, as Llama 2's first was."""
    folder = of_class("LlamaTokenizer", legacy=False)
    train(folder)
    return folder


@pytest.mark.parametrize("text", tiny.CORPUS[:4])
def test_a_sentencepiece_model_alone_gives_the_ids_that_sentencepiece_gives(pieces, text):
    import sentencepiece

    peer = sentencepiece.SentencePieceProcessor(model_file=str(pieces / "tokenizer.model"))
    assert load(pieces).encode(text, special=False) == peer.encode(text)


@pytest.mark.parametrize(
    ("name", "file", "how"),
    [
        ("LlamaTokenizerFast", "tokenizer.model", {}),
        ("CodeLlamaTokenizer", "tokenizer.model", {}),
        ("GemmaTokenizer", "tokenizer.model", GEMMA),
        ("PreTrainedTokenizerFast", "tokenizer.model", GEMMA),
        ("T5Tokenizer", "spiece.model", UNIGRAM),
        ("XLMRobertaTokenizer", "sentencepiece.bpe.model", UNIGRAM),
        ("CamembertTokenizer", "sentencepiece.bpe.model", UNIGRAM),
        ("DebertaV2Tokenizer", "spm.model", UNIGRAM),
        ("GPTSw3Tokenizer", "spiece.model", {}),
    ],
)
def test_a_sentencepiece_model_alone_is_loaded_by_each_class_that_reads_it_as_sentencepiece_does(
    of_class, name, file, how
):
    import sentencepiece

    folder = of_class(name)
    train(folder, file, **how)
    peer = sentencepiece.SentencePieceProcessor(model_file=str(folder / file))
    tokenizer = load(folder)
    text = "the quick brown dog"
    assert tokenizer._tokenizer.tokenize(text) == peer.encode(text, out_type=str)


@pytest.mark.parametrize("name", [None, "LLaMATokenizer", "InternLM2Tokenizer", "BaichuanTokenizer", "GemmaTokenizer"])
def test_a_sentencepiece_model_alone_is_refused_where_transformers_reads_it_otherwise(of_class, name):
    """It loses the blank before the first word, unless tokenizer_class is a class that it has."""
    from transformers import LlamaTokenizer

    folder = of_class(name)
    train(folder)
    said = r"tokenizer\.model .* as \['he', .*, and SentencePiece as \['▁', 'he', .*: save it as tokenizer\.json"
    with pytest.raises(ValueError, match=said):
        load(folder)
    LlamaTokenizer.from_pretrained(folder).save_pretrained(folder)  # as the refusal says
    assert load(folder)._tokenizer.tokenize("the dog") == ["▁the", "▁dog"]


def test_a_llama_whose_model_has_no_first_blank_is_refused_with_the_key_that_says_so(of_class):
    folder = of_class("LlamaTokenizer")
    train(folder, **GEMMA)
    with pytest.raises(ValueError, match=r'its model wants "add_prefix_space": false in tokenizer_config\.json$'):
        load(folder)
    loads.edit_json(folder / "tokenizer_config.json", add_prefix_space=False)  # as the refusal says
    assert load(folder)._tokenizer.tokenize("the dog")[0] == "t"


DIGITS = {"model_type": "bpe", "byte_fallback": True, "vocab_size": 400, "user_defined_symbols": list("0123456789")}


@pytest.mark.parametrize("name", [None, "LlamaTokenizer", "InternLM2Tokenizer"])
def test_advice_that_would_hide_the_fault_is_not_given(of_class, name):
    """LlamaTokenizer misspells this one as well, and what it saves would be believed."""
    folder = of_class(name)
    train(folder, **DIGITS)
    with pytest.raises(ValueError, match=r"tokenizer\.model .* and SentencePiece as ") as refused:
        load(folder)
    assert "save_pretrained" not in str(refused.value)
    assert "convert it to tokenizer.json with the version of transformers that the model was tr" in str(refused.value)


@pytest.mark.parametrize("first_blank", [False, True])
def test_what_the_files_say_of_the_first_blank_counts_against_the_sentencepiece_model(of_class, first_blank):
    folder = of_class("LlamaTokenizer", add_prefix_space=first_blank)
    train(folder, **({} if not first_blank else GEMMA))
    assert load(folder)._tokenizer.tokenize("the dog")[0] == ("▁the" if first_blank else "t")


def test_a_class_that_knows_no_word_of_its_sentencepiece_model_is_refused(of_class):
    folder = of_class("XGLMTokenizer")
    train(folder, "sentencepiece.bpe.model", **UNIGRAM)
    with pytest.raises(ValueError, match=r"to it every text is nothing, or unknown: .*XGLMTokenizer reads"):
        load(folder)


def test_a_file_of_tiktokens_by_the_same_name_is_not_compared_with_sentencepiece(pieces):
    tokenizer = load(pieces)._tokenizer
    (pieces / "tokenizer.model").write_text(
        "".join(f"{base64.b64encode(bytes([n])).decode()} {n}\n" for n in range(256))
    )
    assert probes.fault(tokenizer, pieces) is None


def test_where_sentencepiece_is_not_installed_that_is_what_is_said(pieces, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ValueError, match=r"tokenizer\.model.* want a package that is not here .*sentencepiece"):
        load(pieces)


def test_what_the_model_has_no_chat_template_for_is_plain_text(base, tmp_path, serve, caplog):
    folder = loads.copy(base, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    with caplog.at_level(logging.WARNING):
        running = serve(model_dir=folder, engine="generate")
    length = len(load(folder).encode("hi there"))
    assert running.post("/inference", {"input": "hi there", "max_tokens": 1}).json()["tokenLength"] == str(length + 1)
    assert "has no chat template: /inference continues the text as it is" in caplog.text


def test_an_encoder_without_a_chat_template_is_nothing_to_warn_of(base, tmp_path, serve, caplog):
    folder = loads.copy(base, tmp_path / "encoder")
    (folder / "chat_template.jinja").unlink()
    with caplog.at_level(logging.WARNING):
        serve(model_dir=base, embedding_model_dir=folder, engine="generate")
    assert "has no chat template" not in caplog.text
