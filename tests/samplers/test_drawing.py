"""Tokens drawn where only kernels are allowed that give the same numbers each time."""

import pytest
import torch

from dsrl.samplers.drawing import draw_tokens
from dsrl.types import SamplingParams


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("restriction", [{}, {"top_p": 0.8}, {"top_k": 7}])
def test_deterministic_draws_are_those_of_float32_but_for_its_rounding(restriction, request):
    generator = torch.Generator().manual_seed(0)
    logits, uniform = 3 * torch.randn(2000, 300, generator=generator), torch.rand(2000, generator=generator)
    params = SamplingParams(responses_per_prompt=1, max_new_tokens=1, **restriction)
    token, logprob = draw_tokens(logits, uniform, params)
    request.getfixturevalue("deterministic")
    again, its_logprob = draw_tokens(logits, uniform, params)
    assert int((token != again).sum()) <= 2
    same = token == again
    assert torch.equal(logprob[same], its_logprob[same])


def test_no_probability_is_drawn_where_there_is_none(deterministic):
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).expand(4, -1)
    uniform = torch.tensor([0.0, 0.49999, 0.5, 1 - 2**-24])
    token, _ = draw_tokens(logits, uniform, SamplingParams(responses_per_prompt=1, max_new_tokens=1))
    assert token.tolist() == [1, 1, 3, 3]
