"""What every sampler must do, as checks that a plugin's tests can run, too.

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(check):
        check(Bench(sampler=my_sampler, policy=policy, encoder=encoder))

A check raises AssertionError. The sampler has been set up with policy and encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dsrl.data.encoding import PromptEncoder
from dsrl.models.policy import Policy
from dsrl.samplers.sampler import Sampler
from dsrl.types import Prompt, Rollouts, SamplingParams


@dataclass(kw_only=True)
class Bench:
    """A sampler with what it was set up with. questions: prompts of different lengths.

    tolerance: the largest difference between its log-probabilities and the policy's; 1e-4 if both compute in float32.
    """

    sampler: Sampler
    policy: Policy
    encoder: PromptEncoder
    questions: tuple[str, ...] = ("537+920=", "1+1=", "", "12345678+1=", "9")
    tolerance: float = 1e-4

    @property
    def prompts(self) -> list[Prompt]:
        """The questions, encoded."""
        return [
            Prompt(position=position, text=question, token_ids=self.encoder.encode(question))
            for position, question in enumerate(self.questions)
        ]

    def sample(self, prompts: list[Prompt] | None = None, **changes: Any) -> Rollouts:
        """Three responses of at most 24 tokens to each prompt, unless changed."""
        params = SamplingParams(responses_per_prompt=3, max_new_tokens=24)
        return self.sampler.sample(self.prompts if prompts is None else prompts, dataclasses.replace(params, **changes))


def rollouts_have_their_shapes(bench: Bench) -> None:
    """Prompts in their order; tokens padded on the right up to the longest; log-probabilities that are 0 on padding."""
    prompts = bench.prompts
    found = bench.sample(prompts)
    rows = 3 * len(prompts)
    assert found.prompts == prompts and found.responses_per_prompt == 3
    assert len(found.texts) == len(found.finish_reasons) == rows
    assert found.tokens.dtype == torch.long and found.mask.dtype == torch.bool
    assert found.tokens.shape == found.mask.shape == found.logprobs.shape == (rows, int(found.lengths.max()))
    assert {part.device.type for part in (found.tokens, found.mask, found.logprobs)} == {"cpu"}
    assert int(found.lengths.min()) >= 1 and int(found.lengths.max()) <= 24
    assert torch.equal(found.mask, torch.arange(found.mask.shape[1]) < found.lengths[:, None])
    assert bool((found.logprobs <= 0).all()) and bool((found.logprobs[~found.mask] == 0).all())


def responses_end_with_their_end_token(bench: Bench) -> None:
    """`stop`: the last token, and no other, is an end token. `length`: none is, and no further token was allowed."""
    ends = torch.tensor(sorted(bench.sampler.end_token_ids))
    for allowed in (1, 8, 24):
        found = bench.sample(max_new_tokens=allowed, responses_per_prompt=8)
        assert set(found.finish_reasons) <= {"stop", "length"}
        for tokens, reason in zip(_responses(found), found.finish_reasons, strict=True):
            end = torch.isin(tokens, ends)
            assert not end[:-1].any()
            assert bool(end[-1]) == (reason == "stop")
            assert reason == "stop" or len(tokens) == allowed


def texts_are_the_tokens_without_special_ones(bench: Bench) -> None:
    """Each text is its response, decoded."""
    found = bench.sample()
    assert found.texts == bench.encoder.decode([tokens.tolist() for tokens in _responses(found)])


def prompts_may_be_as_long_as_the_positions_allow(bench: Bench) -> None:
    """From one token up to where the response just fits."""
    positions = bench.policy.model.config.max_position_embeddings
    words = [token for token in bench.prompts[0].token_ids if token not in bench.sampler.end_token_ids]
    longest = tuple((words * positions)[: positions - 8])
    prompts = [Prompt(position=b, text="", token_ids=ids) for b, ids in enumerate([longest[:1], longest])]
    found = bench.sample(prompts, max_new_tokens=8)
    assert len(found.texts) == 6 and int(found.lengths.max()) <= 8
    _assert_scored(bench, found, 1.0)


def log_probabilities_are_the_policys(bench: Bench) -> None:
    """At the sampling temperature, after the prompt, of the end token, too."""
    for temperature in (1.0, 0.6):
        _assert_scored(bench, bench.sample(temperature=temperature), temperature)


def draws_depend_on_seed_iteration_position_and_number_alone(bench: Bench) -> None:
    """Not on the other prompts, their order, the number of responses or their longest allowed length."""
    prompts = bench.prompts
    together = _by_position(bench.sample(prompts))
    assert _by_position(bench.sample(prompts)) == together
    assert _by_position(bench.sample(prompts[::-1])) == together
    for prompt in prompts:
        assert _by_position(bench.sample([prompt])) == {prompt.position: together[prompt.position]}
    fewer = _by_position(bench.sample(prompts, responses_per_prompt=2))
    assert fewer == {position: responses[:2] for position, responses in together.items()}
    shorter = _by_position(bench.sample(prompts, max_new_tokens=5))
    assert shorter == {p: [response[:5] for response in responses] for p, responses in together.items()}
    elsewhere = [dataclasses.replace(prompt, position=prompt.position + 100) for prompt in prompts]
    for other in (bench.sample(prompts, seed=1), bench.sample(prompts, iteration=1), bench.sample(elsewhere)):
        assert list(_by_position(other).values()) != list(together.values())


def responses_to_one_prompt_differ(bench: Bench) -> None:
    """G responses are G draws."""
    (responses,) = _by_position(bench.sample(bench.prompts[:1], responses_per_prompt=16)).values()
    assert len(set(responses)) > 1


def greedy_is_the_same_whatever_the_seed(bench: Bench) -> None:
    """Temperature 0: every response to a prompt is the one of the likeliest tokens, as with top_k 1."""
    greedy = _by_position(bench.sample(temperature=0.0))
    assert all(len(set(responses)) == 1 for responses in greedy.values())
    assert _by_position(bench.sample(temperature=0.0, seed=5, iteration=3)) == greedy
    assert _by_position(bench.sample(top_k=1)) == greedy


def stop_tokens_end_a_response(bench: Bench) -> None:
    """A stop token belongs to the response that it ends, and takes nothing from the draws before it."""
    free, ends = bench.sample(), bench.sampler.end_token_ids
    inner = free.tokens[free.mask & ~torch.isin(free.tokens, torch.tensor(sorted(ends)))]
    stop = int(inner.mode().values)
    found = bench.sample(stop_token_ids=(stop,))
    for before, tokens, reason in zip(_responses(free), _responses(found), found.finish_reasons, strict=True):
        places = (before == stop).nonzero()[:, 0].tolist()
        assert torch.equal(tokens, before[: places[0] + 1] if places else before)
        assert reason == "stop" or not places


def no_prompts_are_no_rollouts(bench: Bench) -> None:
    """A rank may have none."""
    found = bench.sample([])
    assert (found.prompts, found.texts, found.finish_reasons) == ([], [], [])
    assert found.tokens.shape[0] == found.mask.shape[0] == found.logprobs.shape[0] == 0
    assert found.lengths.tolist() == []


def new_weights_are_served_after_a_sync(bench: Bench) -> None:
    """Whatever was cached under the old ones is forgotten."""
    before = {name: tensor.detach().clone() for name, tensor in bench.policy.named_tensors()}
    try:
        with torch.no_grad():
            for _, tensor in bench.policy.named_tensors():
                tensor.mul_(1.02)
        bench.sampler.sync(bench.policy.named_tensors())
        _assert_scored(bench, bench.sample(), 1.0)
    finally:
        with torch.no_grad():
            for name, tensor in bench.policy.named_tensors():
                tensor.copy_(before[name])
        bench.sampler.sync(bench.policy.named_tensors())
    _assert_scored(bench, bench.sample(), 1.0)


def it_may_rest_until_the_next_sync(bench: Bench) -> None:
    """While the policy trains it may give memory back; a sync wakes it."""
    before = _by_position(bench.sample())
    bench.sampler.sleep()
    bench.sampler.sleep()
    bench.sampler.sync(bench.policy.named_tensors())
    assert _by_position(bench.sample()) == before


def the_policy_is_left_as_it_was(bench: Bench) -> None:
    """Training mode, gradients and the global random state."""
    state = torch.get_rng_state()
    for training in (True, False):
        bench.policy.train(training)
        bench.sample()
        assert all(module.training == training for module in bench.policy.modules())
    assert all(parameter.requires_grad for parameter in bench.policy.parameters())
    assert all(parameter.grad is None for parameter in bench.policy.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def it_may_be_closed_twice(bench: Bench) -> None:
    """The last check: nothing is sampled after it."""
    bench.sampler.close()
    bench.sampler.close()


CHECKS: tuple[Callable[[Bench], None], ...] = (
    rollouts_have_their_shapes,
    responses_end_with_their_end_token,
    texts_are_the_tokens_without_special_ones,
    prompts_may_be_as_long_as_the_positions_allow,
    log_probabilities_are_the_policys,
    draws_depend_on_seed_iteration_position_and_number_alone,
    responses_to_one_prompt_differ,
    greedy_is_the_same_whatever_the_seed,
    stop_tokens_end_a_response,
    no_prompts_are_no_rollouts,
    new_weights_are_served_after_a_sync,
    it_may_rest_until_the_next_sync,
    the_policy_is_left_as_it_was,
    it_may_be_closed_twice,
)


def _responses(rollouts: Rollouts) -> list[Tensor]:
    return [tokens[keep] for tokens, keep in zip(rollouts.tokens, rollouts.mask, strict=True)]


def _by_position(rollouts: Rollouts) -> dict[int, list[tuple[int, ...]]]:
    found: dict[int, list[tuple[int, ...]]] = {}
    for row, tokens in enumerate(_responses(rollouts)):
        found.setdefault(rollouts.prompt_of(row).position, []).append(tuple(tokens.tolist()))
    return found


@torch.no_grad()
def _assert_scored(bench: Bench, rollouts: Rollouts, temperature: float) -> None:
    contexts = [rollouts.prompt_of(row).token_ids for row in range(len(rollouts.texts))]
    device = bench.policy.device
    scored = bench.policy(contexts, rollouts.tokens.to(device), rollouts.mask.to(device), temperature).cpu()
    difference = float((scored - rollouts.logprobs).abs().max())
    assert difference <= bench.tolerance, f"log-probabilities differ from the policy's by up to {difference}"
