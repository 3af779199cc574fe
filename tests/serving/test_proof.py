"""An engine proves itself before it serves: what is wrong, dies, hangs or depends on its company is not served so."""

import asyncio

import pytest
import tiny
import torch
from llmserving.engines import attention, budget, local, proof, rope
from llmserving.engines.base import HangingError, Sampling, UnprovenError
from llmserving.engines.continuous import ContinuousEngine
from llmserving.engines.generate import GenerateEngine
from llmserving.server import load
from llmserving.settings import from_mapping
from transformers import BloomConfig, BloomForCausalLM, Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

AUTO = {"engine": "auto", "model_dir": "somewhere"}
NAMED = {"engine": "continuous", "model_dir": "somewhere"}


def make_bloom():
    """Return a model whose attention is its own: it ignores the paged cache."""
    torch.manual_seed(3)
    return BloomForCausalLM(
        BloomConfig(vocab_size=400, hidden_size=64, n_layer=2, n_head=4, initializer_range=0.3)
    ).eval()


def make_rope(kind, **parameters):
    torch.manual_seed(4)
    rope_parameters = {"rope_type": kind, "rope_theta": 10000.0, "factor": 8.0, **parameters}
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512 if kind == "longrope" else 64,
        rope_parameters=rope_parameters,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


LONGROPE = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "original_max_position_embeddings": 64}


@pytest.fixture
def engines():
    """Return a function that chooses an engine for a model, and stop them all when the test ends."""
    made = []

    def choose(model, settings, length=512):
        candidate = local.Candidate(model, local.shared_copy(model), length)
        made.append(local.transformers_engine(from_mapping(settings), candidate))
        return made[-1]

    yield choose
    for engine in made:
        engine.close()


def answer(engine, prompt, tokens=40):
    async def run():
        return [token.id async for token in engine.submit(prompt, Sampling(max_tokens=tokens, temperature=0))]

    return asyncio.run(run())


def greedy(model, prompt, tokens=40):
    """Return transformers' own answer."""
    ids = torch.tensor([prompt])
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, eos_token_id=None
    )
    return made[0, len(prompt) :].tolist()


def test_a_model_that_is_computed_right_is_served_by_the_continuous_engine(engines):
    assert isinstance(engines(tiny.make_model(), AUTO), ContinuousEngine)


def test_a_model_that_ignores_the_cache_is_served_by_generate_and_the_log_says_why(engines, caplog):
    model = make_bloom()
    expected = greedy(local.shared_copy(model), [7, 8, 9])
    engine = engines(model, AUTO)
    assert isinstance(engine, GenerateEngine)
    assert answer(engine, [7, 8, 9]) == expected
    (line,) = [record.getMessage() for record in caplog.records if record.name == "llmserving.engines.local"]
    assert line.startswith("continuous batching is not for this model (its logits differ from the plain model's by 1")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_told_from_another_computation(dtype, engines):
    assert isinstance(engines(tiny.make_model().to(dtype), AUTO), ContinuousEngine)
    assert isinstance(engines(make_bloom().to(dtype), AUTO), GenerateEngine)


def test_a_model_that_is_not_computed_right_is_refused_where_the_engine_is_asked_for_by_name(engines):
    with pytest.raises(ValueError, match=r"engine continuous: its logits differ .* engine generate serves this model"):
        engines(make_bloom(), NAMED)


def test_an_engine_that_dies_in_its_proof_gives_way_and_the_log_says_what_of(engines, caplog, monkeypatch):
    def attend(*_, **__):
        raise KeyError("cache")

    monkeypatch.setattr(attention, "attend", attend)
    assert isinstance(engines(tiny.make_model(), AUTO), GenerateEngine)
    assert "the continuous batching worker died: 'cache'" in caplog.text
    assert "Traceback" not in caplog.text


def test_scores_with_a_cap_are_capped_in_the_continuous_engine_too(engines):
    torch.manual_seed(5)
    config = Gemma2Config(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=1,
        attn_logit_softcapping=0.5,
        tie_word_embeddings=False,  # tied, this model says its last token again, capped or not
        sliding_window=24,
        initializer_range=0.3,
    )
    model = Gemma2ForCausalLM(config).eval()
    prompt = list(range(30, 120))
    expected = greedy(local.shared_copy(model), prompt)
    engine = engines(model, NAMED)
    assert answer(engine, prompt) == expected


def test_a_hanging_proof_is_told_apart(monkeypatch):
    model = tiny.make_model()
    reference = proof.measure(local.shared_copy(model), 512)
    engine = ContinuousEngine(model, 512, from_mapping(NAMED))
    monkeypatch.setattr(proof, "PATIENCE_SECONDS", -reference.seconds * proof.PATIENCE)
    with pytest.raises(HangingError, match="no answer to a short prompt within"):
        local.proven(engine, reference)


@pytest.mark.parametrize("tokens", [464, 100])
def test_a_head_of_another_size_than_the_embedding_is_proven_too(tokens, engines):
    """Padded for the processor, or of those tokens alone that may be answered."""
    model = tiny.make_model()
    torch.manual_seed(8)
    model.lm_head = torch.nn.Linear(64, tokens, bias=False)
    assert isinstance(engines(model.eval(), NAMED), ContinuousEngine)


@pytest.mark.parametrize("error", [UnprovenError, RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_engine_is_stopped_whatever_ends_its_proof(error, monkeypatch):
    def prove(*_):
        raise error

    monkeypatch.setattr(local, "prove", prove)
    engine = ContinuousEngine(tiny.make_model(), 512, from_mapping(NAMED))
    with pytest.raises(error):
        local.proven(engine, reference=None)
    assert not engine._manager.is_running()


def test_logits_that_are_no_numbers_refuse_the_start():
    model = tiny.make_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"in torch.float32 the model's logits are not numbers: set dtype"):
        proof.measure(model, 512)


@pytest.mark.parametrize("length", [1, 2, 7, 60, 512])
def test_a_proof_fits_every_context(length):
    model = tiny.make_model()
    reference = proof.measure(local.shared_copy(model), length)
    assert max(len(probe.prompt) + len(probe.answer) for probe in reference.probes) <= max(length, 2)


def test_the_long_prompt_is_longer_than_a_page_and_the_third_shares_it():
    first, second, third = proof.measure(tiny.make_model(), 512).probes
    assert len(first.prompt) > len(third.prompt) > budget.PAGE_TOKENS > len(second.prompt)
    assert first.prompt[: budget.PAGE_TOKENS] == third.prompt[: budget.PAGE_TOKENS]
    assert first.prompt[: len(third.prompt)] != third.prompt


class TestPositions:
    def test_longrope_beyond_its_trained_length_is_served_alone_and_the_log_says_so(self, engines, caplog):
        model = make_rope("longrope", **LONGROPE)
        engine = engines(model, AUTO)
        assert isinstance(engine, GenerateEngine)
        assert "with longrope positions an answer would depend on the other sequences of a step" in caplog.text

    def test_longrope_within_its_trained_length_is_computed_right_in_a_batch(self, engines):
        engine = engines(make_rope("longrope", **LONGROPE), AUTO, length=64)
        assert isinstance(engine, ContinuousEngine)

    @pytest.mark.parametrize("kind", ["longrope", "dynamic"])
    def test_an_answer_that_crosses_the_trained_length_is_transformers_own_whatever_came_before(self, kind, engines):
        parameters = LONGROPE if kind == "longrope" else {}
        model = make_rope(kind, **parameters)
        prompts = [list(range(20, 60)), list(range(5, 205)), list(range(40, 110))]
        expected = [greedy(make_rope(kind, **parameters), prompt, 60) for prompt in prompts]
        engine = engines(model, AUTO, length=400)
        assert [answer(engine, prompt, 60) for prompt in prompts] == expected

    @pytest.mark.parametrize("kind", ["linear", "yarn"])
    def test_a_fixed_scaling_is_computed_in_a_batch_alone_and_in_company(self, kind, engines):
        model = make_rope(kind, **({"original_max_position_embeddings": 64} if kind == "yarn" else {}))
        prompts = [list(range(20, 60)), list(range(5, 205)), list(range(40, 110))]
        expected = [greedy(local.shared_copy(model), prompt) for prompt in prompts]
        engine = engines(model, NAMED, length=400)
        assert [answer(engine, prompt) for prompt in prompts] == expected

        async def company():
            async def one(prompt):
                return [token.id async for token in engine.submit(prompt, Sampling(max_tokens=40, temperature=0))]

            return await asyncio.gather(*map(one, prompts))

        assert asyncio.run(company()) == expected

    def test_each_kind_of_layer_may_have_positions_of_its_own(self):
        config = LlamaConfig(max_position_embeddings=4096)
        config.rope_parameters = {
            "full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 1024},
            "sliding_attention": {"rope_type": "default"},
        }
        assert rope.depends_on_company(config, 2048) == "longrope"
        assert rope.depends_on_company(config, 1024) is None


class Foreign(LlamaForCausalLM):
    """A model whose code is not transformers'."""


def test_code_of_the_folders_own_is_served_in_a_batch_only_where_that_is_asked_for(engines, caplog):
    model = Foreign(tiny.make_model().config).eval()
    assert isinstance(engines(local.shared_copy(model), AUTO), GenerateEngine)
    assert "its code is the folder's own" in caplog.text
    assert isinstance(engines(model, NAMED), ContinuousEngine)


CRASHES = """
import os
from llmserving.engines import attention
attention.attend = lambda *_, **__: os.abort()
"""
HANGS = """
import time
from llmserving.engines import attention, proof
attention.attend = lambda *_, **__: time.sleep(600)
proof.PATIENCE_SECONDS, proof.PATIENCE = 1.0, 0.0  # however slow this machine is
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (CRASHES, "the engine's process ended with -6: it was proving itself"),
        (HANGS, "no answer to a short prompt within 1 seconds"),
    ],
)
def test_a_process_that_dies_or_hangs_in_its_proof_is_started_again_for_generate(
    fault, words, base, monkeypatch, caplog, tmp_path
):
    """The fault is in the process itself: Python imports a `sitecustomize` before anything else."""
    (tmp_path / "sitecustomize.py").write_text(fault)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = load(from_mapping({"model_dir": base}))
    try:
        assert f"({words}): one sequence at a time" in caplog.text
        assert len(answer(server.engine, [5, 6, 7], 4)) == 4
    finally:
        server.close()
    with pytest.raises(RuntimeError, match=f"engine continuous: {words}; engine generate serves this model"):
        load(from_mapping({"model_dir": base, "engine": "continuous"}))
