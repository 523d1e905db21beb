"""Products of rounded inputs: exact where rounding loses nothing, near elsewhere, and only where they are allowed."""

import pytest
import torch
import torch.nn.functional as F

from learner import small_llama
from learner.hardware import matmul_precision
from learner.rounded_products import RoundedProducts, added, kept, product, products, rounds
from tests.learner.conftest import random_llama

BF16_STEP = 2**-8


def whole_numbers(*shape: int) -> torch.Tensor:
    """Few enough bits for bfloat16, as have sums of a few products of them."""
    return torch.randint(-3, 4, shape).float().requires_grad_()


def gradients(answers, toward, inputs):
    return torch.autograd.grad(sum((a * t).sum() for a, t in zip(answers, toward, strict=True)), inputs)


def test_where_rounding_loses_nothing_values_and_gradients_are_those_of_plain_products():
    torch.manual_seed(1)
    inputs, weights = whole_numbers(5, 8), [whole_numbers(3, 8), whole_numbers(1, 8), whole_numbers(4, 8)]
    rounded, plain = RoundedProducts.apply(inputs, *weights), [F.linear(inputs, weight) for weight in weights]
    toward = [torch.randint(-2, 3, answer.shape).float() for answer in plain]
    for ours, theirs in zip(rounded, plain, strict=True):
        assert ours.dtype == torch.float32 and ours.is_contiguous()
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    both = (gradients(answers, toward, [inputs, *weights]) for answers in (rounded, plain))
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


def test_elsewhere_they_are_as_near_as_bfloat16_is():
    torch.manual_seed(1)
    inputs, weights = torch.randn(50, 64, requires_grad=True), [torch.randn(n, 64, requires_grad=True) for n in (30, 7)]
    rounded, plain = RoundedProducts.apply(inputs, *weights), [F.linear(inputs, weight) for weight in weights]
    toward = [torch.randn_like(answer) for answer in plain]
    given = [inputs, *weights]
    pairs = [*zip(rounded, plain, strict=True)]
    pairs += zip(gradients(rounded, toward, given), gradients(plain, toward, given), strict=True)
    for ours, theirs in pairs:
        error = float((ours - theirs).detach().norm() / theirs.detach().norm())
        assert 0 < error < BF16_STEP


def test_what_is_frozen_gets_no_gradient():
    inputs, weight = torch.randn(4, 8), torch.randn(3, 8)
    for needs_inputs, needs_weight in ((True, False), (False, True)):
        inputs, weight = inputs.detach().requires_grad_(needs_inputs), weight.detach().requires_grad_(needs_weight)
        RoundedProducts.apply(inputs, weight)[0].sum().backward()
        assert (inputs.grad is not None) == needs_inputs
        assert (weight.grad is not None) == needs_weight


@torch.no_grad()
def test_nothing_is_rounded_unless_it_is_allowed():
    torch.manual_seed(1)
    states, inputs, weight = torch.randn(4, 3), torch.randn(4, 8), torch.randn(3, 8)
    plain = inputs @ weight.T
    with matmul_precision("full", random_llama()):
        assert not rounds()
        torch.testing.assert_close(products(inputs, weight)[0], plain)
        torch.testing.assert_close(added(states, inputs, weight), states + plain)
        torch.testing.assert_close(product(inputs, kept(weight)), plain)


@torch.no_grad()
def test_all_ways_round_alike_where_it_is_allowed_and_the_processor_gains_by_it():
    torch.manual_seed(1)
    states, inputs, weight = torch.randn(4, 3), torch.randn(4, 8), torch.randn(3, 8)
    with matmul_precision("fast", random_llama()):
        if not rounds():
            pytest.skip("a processor without AVX-512's bfloat16, or with AMX")
        (ours,) = products(inputs, weight)
        torch.testing.assert_close(added(states, inputs, weight), states + ours, atol=0, rtol=0)
        torch.testing.assert_close(product(inputs, kept(weight)), ours)
    assert not torch.equal(ours, inputs @ weight.T)


def test_a_llamas_states_and_gradients_stay_near():
    model = random_llama()
    tokens = torch.randint(1, 20, (6, 9), generator=torch.Generator().manual_seed(1))
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    parameters = list(model.model.layers.parameters())

    def states_and_gradients(precision):
        with matmul_precision(precision, model):
            states = small_llama.hidden_states(model.model, tokens, everywhere)
            toward = torch.randn(states.shape, generator=torch.Generator().manual_seed(2))
            return states, *torch.autograd.grad((states * toward).sum(), parameters)

    for ours, exact in zip(*map(states_and_gradients, ("fast", "full")), strict=True):
        assert float((ours - exact).detach().norm() / exact.detach().norm()) < 0.1
