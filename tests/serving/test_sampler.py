"""The choice of tokens: every parameter does what OpenAI's and vLLM's documentation says of it."""

import math
from collections import Counter

import pytest
import torch
from llmserving.engines.base import Sampling
from llmserving.engines.sampler import SequenceState, choose, draw, nucleus

CPU = torch.device("cpu")
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def state(prompt=(0,), **wanted):
    return SequenceState(prompt, Sampling(max_tokens=8, **wanted), CPU)


def picks(times=400, **wanted):
    sequence = state(seed=3, **wanted)
    return Counter(sequence.choose(LOGITS.clone()) for _ in range(times))


def test_temperature_zero_takes_the_likeliest():
    assert picks(temperature=0) == {0: 400}


def test_a_low_temperature_sharpens_and_a_high_one_flattens():
    assert picks(temperature=0.2)[0] > picks(temperature=1)[0] > picks(temperature=5)[0]


def test_top_k_leaves_the_k_likeliest():
    assert set(picks(temperature=5, top_k=2)) == {0, 1}


def test_top_k_larger_than_the_vocabulary_leaves_all():
    assert set(picks(temperature=5, top_k=99)) == set(range(6))


def test_top_p_leaves_the_smallest_set_that_reaches_it():
    probabilities = LOGITS.softmax(dim=-1)
    assert float(probabilities[0]) < 0.7 < float(probabilities[:2].sum())
    assert set(picks(top_p=0.7)) == {0, 1}


def test_a_tiny_top_p_still_leaves_the_likeliest():
    assert picks(top_p=1e-6) == {0: 400}


def test_top_p_looks_at_the_whole_vocabulary_where_the_likeliest_thousand_are_not_enough():
    values, order = nucleus(torch.full((5000,), 1 / 5000), 0.9)
    assert len(values) == len(order) == pytest.approx(4500, abs=5)


def test_min_p_drops_what_is_too_far_below_the_likeliest():
    assert set(picks(min_p=0.3)) == {0, 1}


def test_top_p_applies_to_what_top_k_has_left():
    assert set(picks(temperature=1, top_k=2, top_p=0.7)) == {0}


def test_the_shares_drawn_are_those_of_the_model():
    shares, drawn = LOGITS.softmax(dim=-1), picks(times=4000)
    for token, share in enumerate(shares.tolist()):
        assert drawn[token] / 4000 == pytest.approx(share, abs=0.03)


def test_the_same_seed_draws_the_same_and_another_seed_something_else():
    def run(seed):
        sequence = state(seed=seed, temperature=3)
        return [sequence.choose(LOGITS.clone()) for _ in range(50)]

    assert run(1) == run(1) != run(2)


def test_a_seeded_sequence_does_not_depend_on_its_neighbours():
    alone, among = state(seed=1, temperature=3), state(seed=1, temperature=3)
    neighbours = [state(temperature=3) for _ in range(3)]
    for _ in range(20):
        first = choose(LOGITS.repeat(1, 1), [alone])[0]
        assert choose(LOGITS.repeat(4, 1), [neighbours[0], among, *neighbours[1:]])[1] == first


def test_a_presence_penalty_is_subtracted_once():
    sequence = state(temperature=0, presence_penalty=1.2)
    assert [sequence.choose(LOGITS.clone()) for _ in range(4)] == [0, 1, 0, 0]


def test_a_frequency_penalty_grows_with_each_use():
    sequence = state(temperature=0, frequency_penalty=0.6)
    assert [sequence.choose(LOGITS.clone()) for _ in range(5)] == [0, 0, 1, 0, 2]


def test_penalties_count_the_answer_and_not_the_prompt():
    assert state(prompt=[0, 0, 0], temperature=0, presence_penalty=2).choose(LOGITS.clone()) == 0


def test_a_repetition_penalty_counts_the_prompt_too():
    assert state(prompt=[0], temperature=0, repetition_penalty=3).choose(LOGITS.clone()) == 1


def test_a_repetition_penalty_lowers_negative_scores_as_well():
    sequence = state(prompt=[0], temperature=0, repetition_penalty=3)
    assert sequence.choose(torch.tensor([-1.0, -2.0, -9.0])) == 1


def anew(logits, prompt, answer, wanted):
    """Return what the penalties make of logits, written down as OpenAI's and CTRL's papers have them."""
    scores = logits.clone()
    for token, bias in wanted.get("logit_bias", {}).items():
        scores[token] += bias
    penalty = wanted.get("repetition_penalty", 1.0)
    for token in {*prompt, *answer}:
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    for token, count in Counter(answer).items():
        scores[token] -= wanted.get("presence_penalty", 0) + wanted.get("frequency_penalty", 0) * count
    return scores


@pytest.mark.parametrize(
    "wanted",
    [
        {"repetition_penalty": 1.3},
        {"presence_penalty": 0.4, "frequency_penalty": 0.3},
        {"repetition_penalty": 1.2, "frequency_penalty": -0.2, "logit_bias": {3: 1.5, 9: -4.0}},
        {"logit_bias": {7: 2.0}},
    ],
)
def test_what_is_kept_from_token_to_token_is_what_would_be_counted_anew(wanted):
    generator, prompt, answer = torch.Generator().manual_seed(5), [4, 4, 9, 1], []
    sequence = state(prompt=prompt, temperature=0, **wanted)
    for _ in range(60):
        logits = torch.randn(16, generator=generator)
        answer.append(sequence.choose(logits))
        assert answer[-1] == int(anew(logits, prompt, answer[:-1], wanted).argmax())


def test_penalties_apply_to_logits_of_half_the_size_too():
    sequence = state(prompt=[0], temperature=0, repetition_penalty=3, frequency_penalty=0.5, logit_bias={2: 1.0})
    assert [sequence.choose(LOGITS.to(torch.bfloat16)) for _ in range(2)] == [2, 1]


def test_no_step_of_a_long_sequence_makes_its_tensors_anew(monkeypatch):
    made = []
    sequence = state(prompt=range(5000), temperature=0, repetition_penalty=1.1, presence_penalty=0.5)
    sequence.choose(torch.randn(6000))
    tensor = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda values, **more: [made.append(len(values)), tensor(values, **more)][1])
    for _ in range(20):
        sequence.choose(torch.randn(6000))
    assert max(made, default=0) <= 1


def test_a_bias_of_100_forces_a_token_and_one_of_minus_100_bans_it():
    assert state(temperature=0, logit_bias={5: 100.0}).choose(LOGITS.clone()) == 5
    assert picks(temperature=1, logit_bias={0: -100.0})[0] == 0


def test_log_probabilities_are_the_models_own_whatever_the_temperature():
    sequence = state(temperature=0.1, seed=1, logprobs=2, logit_bias={4: 100.0})
    sequence.choose(LOGITS.clone())
    token = sequence.token(0, 4)
    expected = LOGITS.log_softmax(dim=-1)
    assert token.id == 4
    assert token.logprob == pytest.approx(float(expected[4]))
    assert [pair[0] for pair in token.top] == [0, 1]
    assert math.fsum(math.exp(pair[1]) for pair in token.top) < 1


def test_a_row_that_nobody_owns_gets_its_likeliest():
    assert choose(LOGITS.repeat(2, 1), [None, state(temperature=0, logit_bias={5: 100.0})]).tolist() == [0, 5]


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("wanted", [{"temperature": 0}, {"temperature": 1}, {"temperature": 0, "logprobs": 1}])
def test_a_row_whose_numbers_are_none_fails_and_the_others_have_their_tokens(number, wanted):
    logits = LOGITS.repeat(3, 1)
    logits[1, 3] = number
    states = [state(temperature=0), state(**wanted), state(temperature=0, logit_bias={5: 100.0})]
    chosen = choose(logits, states).tolist()
    assert (chosen[0], chosen[2]) == (0, 5)
    assert 0 <= chosen[1] < len(LOGITS)
    assert [each.failure is None for each in states] == [True, False, True]


def test_a_row_that_nothing_is_left_of_fails():
    sequence = state(temperature=0)
    choose(torch.full((1, 6), -math.inf), [sequence])
    assert "no numbers" in sequence.failure


def test_a_repetition_penalty_leaves_out_what_the_model_can_only_read():
    assert state(prompt=[0, 6, 99], temperature=0, repetition_penalty=3).choose(LOGITS.clone()) == 1


def test_more_likely_tokens_than_there_are_are_all():
    sequence = state(temperature=0, logprobs=20)
    sequence.choose(LOGITS.clone())
    assert len(sequence.token(0, 0).top) == 6


def test_drawing_needs_no_seed():
    assert draw(LOGITS, Sampling(max_tokens=1), None) in range(6)


def test_a_suppressed_token_is_never_chosen_greedy_or_drawn_and_no_bias_brings_it_back():
    assert state(temperature=0, suppressed=frozenset({0, 1})).choose(LOGITS.clone()) == 2
    assert set(picks(temperature=5, suppressed=frozenset({0, 4}))) == {1, 2, 3, 5}
    assert set(picks(temperature=5, top_k=2, min_p=0.01, suppressed=frozenset({0}))) == {1, 2}
    assert state(temperature=0, suppressed=frozenset({0}), logit_bias={0: 100.0}).choose(LOGITS.clone()) == 1
    assert state(temperature=0, suppressed=frozenset({0}), repetition_penalty=2).choose(LOGITS.clone()) == 1


def test_a_greedy_row_looks_again_only_where_its_likeliest_is_suppressed():
    sequences = [state(temperature=0, suppressed=frozenset({0})), state(temperature=0, suppressed=frozenset({3}))]
    assert [each.takes(0) for each in sequences] == [False, True]
    assert choose(LOGITS.repeat(2, 1), sequences).tolist() == [1, 0]


def test_a_suppressed_token_that_the_model_does_not_have_changes_nothing():
    assert state(temperature=0, suppressed=frozenset({6, 258883})).choose(LOGITS.clone()) == 0
    assert set(picks(temperature=5, suppressed=frozenset({6, 258883}))) == set(range(6))


def test_a_row_whose_tokens_are_all_suppressed_fails():
    sequence = state(temperature=0, suppressed=frozenset(range(6)))
    choose(LOGITS.repeat(1, 1), [sequence])
    assert "no numbers" in sequence.failure
