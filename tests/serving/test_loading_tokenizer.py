"""The tokenizer and the chat template: the checkpoint's, else the base's; and the user's words are in the prompt."""

import logging
import sys

import loads
import pytest
import tiny
from llmserving.chat_template import Form, find_form
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
    return ModelTokenizer(folder, *others, stop_ids=(), template=template, trust=False)


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


def test_a_tokenizer_that_cannot_be_loaded_is_the_bases(base, checkpoint, caplog):
    (checkpoint / "tokenizer.json").unlink()
    tokenizer = load(checkpoint, base)
    assert tokenizer.encode("The quick") == load(base).encode("The quick")
    assert f"the tokenizer of {base} is taken" in caplog.text


def test_a_tokenizer_that_cannot_be_loaded_is_refused_where_it_adds_tokens(base, checkpoint):
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "added_tokens.json").write_text('{"<tool>": 400}')
    with pytest.raises(ValueError, match=r"checkpoint: its tokenizer cannot be loaded: no tokenizer\.json"):
        load(checkpoint, base)


@pytest.fixture
def pieces(tmp_path):
    """Return a folder with a SentencePiece model and no tokenizer.json, as Llama 2's first was, and the model."""
    import sentencepiece

    (tmp_path / "corpus.txt").write_text("\n".join(tiny.CORPUS * 20))
    folder = tmp_path / "pieces"
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.98,
        minloglevel=2,
        normalization_rule_name="identity",
    )
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "legacy": false}')
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


@pytest.mark.parametrize("text", tiny.CORPUS[:4])
def test_a_sentencepiece_model_alone_gives_the_ids_that_sentencepiece_gives(pieces, text):
    import sentencepiece

    peer = sentencepiece.SentencePieceProcessor(model_file=str(pieces / "tokenizer.model"))
    assert load(pieces).encode(text, special=False) == peer.encode(text)


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
