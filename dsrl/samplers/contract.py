"""Check what every sampler must do; a plugin's tests can run the same checks.

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(check):
        check(SamplerBench(sampler=my_sampler, policy=policy, encoder=encoder))

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
from dsrl.data.prompts import prompts_of
from dsrl.models.policy import Policy
from dsrl.samplers.sampler import Sampler
from dsrl.types import Prompt, Rollouts, SamplingParams


@dataclass(kw_only=True)
class SamplerBench:
    """Hold a sampler and what it was set up with."""

    sampler: Sampler
    policy: Policy
    encoder: PromptEncoder
    questions: tuple[str, ...] = ("537+920=", "1+1=", "", "12345678+1=", "9")
    """Of different lengths."""
    tolerance: float = 1e-4
    """The largest difference between its log-probabilities and the policy's; 1e-4 if both compute in float32."""

    @property
    def prompts(self) -> list[Prompt]:
        """The questions, encoded."""
        return prompts_of(self.questions, self.encoder)

    def sample(self, prompts: list[Prompt] | None = None, **changes: Any) -> Rollouts:
        """Draw three responses of at most 24 tokens to each prompt; `changes` are fields of `SamplingParams`."""
        params = SamplingParams(responses_per_prompt=3, max_new_tokens=24)
        return self.sampler.sample(self.prompts if prompts is None else prompts, dataclasses.replace(params, **changes))


def rollouts_have_their_shapes(bench: SamplerBench) -> None:
    """Prompts keep their order, tokens are padded on the right to the longest, log-probabilities are 0 on padding."""
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


def responses_end_with_their_end_token(bench: SamplerBench) -> None:
    """After `stop` the last token, and no other, is an end token; after `length` none is, and no more were allowed."""
    ends = torch.tensor(sorted(bench.sampler.end_token_ids))
    for allowed in (1, 8, 24):
        found = bench.sample(max_new_tokens=allowed, responses_per_prompt=8)
        assert set(found.finish_reasons) <= {"stop", "length"}
        for tokens, reason in zip(_responses(found), found.finish_reasons, strict=True):
            end = torch.isin(tokens, ends)
            assert not end[:-1].any()
            assert bool(end[-1]) == (reason == "stop")
            assert reason == "stop" or len(tokens) == allowed


def texts_are_what_was_written(bench: SamplerBench) -> None:
    """Each text is its response as it was written, without the tokens that end it."""
    found = bench.sample()
    assert found.texts == bench.sampler.decode([tokens.tolist() for tokens in _responses(found)])


def prompts_may_be_as_long_as_the_positions_allow(bench: SamplerBench) -> None:
    """A prompt may have one token, or as many as leave just enough positions for the response."""
    positions = bench.policy.positions or 64  # None: any number
    words = [token for token in bench.prompts[0].token_ids if token not in bench.sampler.end_token_ids]
    longest = tuple((words * positions)[: positions - 8])
    prompts = [Prompt(position=b, text="", token_ids=ids) for b, ids in enumerate([longest[:1], longest])]
    found = bench.sample(prompts, max_new_tokens=8)
    assert len(found.texts) == 6 and int(found.lengths.max()) <= 8
    _assert_scored(bench, found, 1.0)


def log_probabilities_are_the_policys(bench: SamplerBench) -> None:
    """Log-probabilities are the policy's after the prompt, at the sampling temperature, also of the end token."""
    for temperature in (1.0, 0.6):
        _assert_scored(bench, bench.sample(temperature=temperature), temperature)


def draws_depend_on_seed_iteration_position_and_number_alone(bench: SamplerBench) -> None:
    """A draw does not depend on other prompts, their order, the number of responses or the longest length allowed."""
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


def responses_to_one_prompt_differ(bench: SamplerBench) -> None:
    """G responses to a prompt are G draws."""
    (responses,) = _by_position(bench.sample(bench.prompts[:1], responses_per_prompt=16)).values()
    assert len(set(responses)) > 1


def greedy_is_the_same_whatever_the_seed(bench: SamplerBench) -> None:
    """At temperature 0 every response to a prompt consists of the likeliest tokens, as with top_k 1."""
    greedy = _by_position(bench.sample(temperature=0.0))
    assert all(len(set(responses)) == 1 for responses in greedy.values())
    assert _by_position(bench.sample(temperature=0.0, seed=5, iteration=3)) == greedy
    assert _by_position(bench.sample(top_k=1)) == greedy


def stop_tokens_end_a_response(bench: SamplerBench) -> None:
    """A stop token belongs to the response that it ends, and changes nothing before it."""
    free, ends = bench.sample(), bench.sampler.end_token_ids
    inner = free.tokens[free.mask & ~torch.isin(free.tokens, torch.tensor(sorted(ends)))]
    stop = int(inner.mode().values)
    found = bench.sample(stop_token_ids=(stop,))
    for before, tokens, reason in zip(_responses(free), _responses(found), found.finish_reasons, strict=True):
        places = (before == stop).nonzero()[:, 0].tolist()
        assert torch.equal(tokens, before[: places[0] + 1] if places else before)
        assert reason == "stop" or not places


def no_prompts_are_no_rollouts(bench: SamplerBench) -> None:
    """A rank may have no prompts, and gets rollouts with no rows."""
    found = bench.sample([])
    assert (found.prompts, found.texts, found.finish_reasons) == ([], [], [])
    assert found.tokens.shape[0] == found.mask.shape[0] == found.logprobs.shape[0] == 0
    assert found.lengths.tolist() == []


def new_weights_are_served_after_a_sync(bench: SamplerBench) -> None:
    """After a sync the new weights are sampled from, without anything that was cached under the old ones."""
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


def it_may_sleep_until_the_next_sync(bench: SamplerBench) -> None:
    """A sampler may give memory back while the policy trains; a sync wakes it."""
    before = _by_position(bench.sample())
    bench.sampler.sleep()
    bench.sampler.sleep()
    bench.sampler.sync(bench.policy.named_tensors())
    assert _by_position(bench.sample()) == before


def the_policy_is_left_as_it_was(bench: SamplerBench) -> None:
    """Sampling changes neither training mode nor gradients nor the global random state."""
    state = torch.get_rng_state()
    for training in (True, False):
        bench.policy.train(training)
        before = [module.training for module in bench.policy.modules()]
        bench.sample()
        assert [module.training for module in bench.policy.modules()] == before
    assert all(parameter.requires_grad for parameter in bench.policy.parameters())
    assert all(parameter.grad is None for parameter in bench.policy.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def it_may_be_closed_twice(bench: SamplerBench) -> None:
    """Closing twice is allowed. This check comes last, since nothing can be sampled after it."""
    bench.sampler.close()
    bench.sampler.close()


CHECKS: tuple[Callable[[SamplerBench], None], ...] = (
    rollouts_have_their_shapes,
    responses_end_with_their_end_token,
    texts_are_what_was_written,
    prompts_may_be_as_long_as_the_positions_allow,
    log_probabilities_are_the_policys,
    draws_depend_on_seed_iteration_position_and_number_alone,
    responses_to_one_prompt_differ,
    greedy_is_the_same_whatever_the_seed,
    stop_tokens_end_a_response,
    no_prompts_are_no_rollouts,
    new_weights_are_served_after_a_sync,
    it_may_sleep_until_the_next_sync,
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
def _assert_scored(bench: SamplerBench, rollouts: Rollouts, temperature: float) -> None:
    contexts = [rollouts.prompt_of(row).token_ids for row in range(len(rollouts.texts))]
    device = bench.policy.device
    scored = bench.policy(contexts, rollouts.tokens.to(device), rollouts.mask.to(device), temperature).cpu()
    difference = float((scored - rollouts.logprobs).abs().max())
    assert difference <= bench.tolerance, f"log-probabilities differ from the policy's by up to {difference}"
