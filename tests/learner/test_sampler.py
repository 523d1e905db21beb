"""The sampler draws from the model's own distribution, whatever the padding and the batch."""

import pytest
import torch

from learner.language_model import reply_logprobs
from learner.sampler import TorchSampler, draw
from tests.learner.conftest import END

PROMPTS = [[5, 6, 7, 8], [9], [10, 11], [12, 13, 14, 15, 16, 17]]


def sample(model, prompts, *, temperature=1.0, seed=3, limit=12, rows=256):
    return TorchSampler(model, (END,), rows).sample(prompts, max_new_tokens=limit, temperature=temperature, seed=seed)


def test_greedy_is_what_hugging_face_generates(llama):
    replies = sample(llama, PROMPTS, temperature=0).replies()
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        inputs = torch.tensor([prompt])
        generated = llama.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=12, do_sample=False)
        assert reply == generated[0, len(prompt) :].tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_the_models(llama, temperature):
    samples = sample(llama, PROMPTS, temperature=temperature)
    mask = samples.episodes.reply_mask_B_R
    with torch.no_grad():
        expected = reply_logprobs(llama, samples.episodes, temperature)
    torch.testing.assert_close(samples.logprobs_B_R[mask], expected, atol=1e-4, rtol=1e-4)
    assert not samples.logprobs_B_R[~mask].any()


def test_a_reply_does_not_depend_on_the_rest_of_its_batch(llama):
    together = sample(llama, PROMPTS * 3)
    in_pieces = sample(llama, PROMPTS * 3, rows=5)
    assert together.replies() == in_pieces.replies()


def test_replies_end_with_the_end_token_or_at_the_limit(llama):
    samples = sample(llama, PROMPTS * 10, limit=6)
    assert 0 < int(samples.finished_B.sum()) < 40
    for reply, finished in zip(samples.replies(), samples.finished_B.tolist(), strict=True):
        assert finished == (reply[-1] == END)
        assert finished or len(reply) == 6
        assert END not in reply[:-1]


def test_the_seed_decides(llama):
    assert sample(llama, PROMPTS, seed=1).replies() == sample(llama, PROMPTS, seed=1).replies()
    assert sample(llama, PROMPTS, seed=1).replies() != sample(llama, PROMPTS, seed=2).replies()


def test_frequencies_are_the_probabilities(llama):
    """Over 20,000 draws of two tokens each, no pair is off by more than five standard deviations."""
    count, prompt = 20_000, [5, 9]
    replies = sample(llama, [prompt] * count, limit=2, rows=count).replies()
    with torch.no_grad():
        first = torch.softmax(llama(torch.tensor([prompt])).logits[0, -1], dim=-1)
        rows = torch.tensor([[*prompt, token] for token in range(len(first))])
        second = torch.softmax(llama(rows).logits[:, -1], dim=-1)
    drawn = torch.zeros(len(first), len(first))
    for reply in replies:
        drawn[reply[0], reply[1] if len(reply) > 1 else 0] += 1
    joint = first[:, None] * second
    joint[END] = 0
    joint[END, 0] = first[END]
    deviation = (joint * (1 - joint) * count).sqrt()
    assert bool(((drawn - joint * count).abs() <= 5 * deviation + 1).all())


def test_drawing_never_takes_what_has_no_probability():
    logits = torch.tensor([[0.0, -torch.inf, 1.0, -torch.inf]]).expand(5, 4)
    uniforms = torch.tensor([0.0, 0.2689, 0.27, 0.999, 1 - 2**-24])
    tokens, logprobs, _ = draw(logits, uniforms, 1.0)
    assert tokens.tolist() == [0, 0, 2, 2, 2]
    assert torch.isfinite(logprobs).all()
