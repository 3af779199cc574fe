"""A model that gives known answers: its weights are a table, so that what a client reads can be compared.

It answers a prompt that has "[T7]" in it with the eighth answer, if the prompt has the length that it was made for.
"""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

PLACES = 160  # tokens of prompt and answer together
LOUD = 10.0  # far above what else there is


def topic(number):
    """Return the word that asks for an answer."""
    return f"[T{number}]"


def add_topics(tokenizer, count):
    """Give a tokenizer a token for each topic."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(topic(number), normalized=False) for number in range(count)])


def make_parrot(tokenizer, answers, start):
    """Return a model that says `answers`, lists of token ids, each to a prompt of `start` tokens with its topic.

    Attention looks at the topic alone; one neuron for each topic and place writes the token that comes next.
    """
    topics = [tokenizer.convert_tokens_to_ids(topic(number)) for number in range(len(answers))]
    places, spoken = PLACES, sorted({token for answer in answers for token in answer})
    assert start + max(map(len, answers)) <= places
    heard, said = places + len(topics), places + 2 * len(topics)
    width = said + len(spoken) + 1
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=places,
            n_embd=width,
            n_inner=sum(map(len, answers)),
            n_layer=1,
            n_head=1,
            tie_word_embeddings=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        block = model.transformer.h[0]
        for norm in (block.ln_1, block.ln_2, model.transformer.ln_f):
            norm.weight.fill_(1)
        _embed(model.transformer, topics, places)
        _attend(block.attn, topics, places, heard, width)
        lines = [[said + spoken.index(token) for token in answer] for answer in answers]
        _write(block.mlp, lines, start, heard, _level(width))
        model.lm_head.weight[spoken, said : said + len(spoken)] = torch.eye(len(spoken))
    return model


def _embed(transformer, topics, places):
    transformer.wpe.weight[:, :places] = torch.eye(places)
    for number, token in enumerate(topics):
        transformer.wte.weight[token, places + number] = 1


def _attend(attention, topics, places, heard, width):
    """Let each place ask for the topic (a constant query), and carry which one it is to other dimensions."""
    mine = slice(places, places + len(topics))
    attention.c_attn.bias[0] = LOUD * width
    attention.c_attn.weight[mine, width] = 1  # the keys' first dimension
    carried = torch.eye(len(topics)) / _level(width)
    attention.c_attn.weight[mine, 2 * width + heard : 2 * width + heard + len(topics)] = carried
    attention.c_proj.weight[:] = torch.eye(width)


def _write(mlp, lines, start, heard, level):
    """Make a neuron for each topic and place: it fires where both are there, and writes its token's dimension."""
    mlp.c_fc.bias[:] = -1.5 * level
    neurons = [(number, place) for number, line in enumerate(lines) for place in range(len(line))]
    for neuron, (number, place) in enumerate(neurons):
        mlp.c_fc.weight[start - 1 + place, neuron] = 1
        mlp.c_fc.weight[heard + number, neuron] = 1
        mlp.c_proj.weight[neuron, lines[number][place]] = LOUD


def _level(width):
    """Return what a norm makes of a vector of two ones among noughts."""
    return (width / 2) ** 0.5
