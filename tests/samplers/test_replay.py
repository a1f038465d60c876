"""The part of a replay that needs no run: what a collector takes from rollouts that come with their rewards."""

import torch

from dsrl.loop.collector import Collector
from dsrl.types import Prompt, Rewards, Rollouts, SamplingParams


class Judge:
    def score(self, rollouts):
        raise AssertionError("rewards are known: no verifier is asked")


class Recorded:
    def sample(self, prompts, params):
        rewards = Rewards(
            values=torch.tensor([[1.0, 0.0]]),
            components={"exact": torch.tensor([[1.0, 0.0]])},
            extracted_answers=["2", None],
        )
        return Rollouts(
            prompts=[Prompt(position=0, row=41, text="recorded", token_ids=(1,))],
            tokens=torch.ones(2, 1).long(),
            mask=torch.ones(2, 1).bool(),
            logprobs=torch.zeros(2, 1),
            texts=["2", "3"],
            finish_reasons=["stop", "stop"],
            rewards=rewards,
        )


class Source:
    def update(self, prompts, rewards):
        self.told = [prompt.row for prompt in prompts], rewards.tolist()

    def metrics(self):
        return {}


def test_rollouts_with_rewards_need_no_verifier_and_bring_their_prompts():
    source = Source()
    asked = Prompt(position=0, row=5, text="asked", token_ids=(1,))
    params = SamplingParams(responses_per_prompt=2, max_new_tokens=1)
    batch = Collector(sampler=Recorded(), verifier=Judge()).collect([asked], params, source)
    assert batch.rewards.tolist() == [[1.0, 0.0]] and batch.extracted_answers == ["2", None]
    assert source.told == ([41], [[1.0, 0.0]])
    assert batch.metrics["reward/exact"].sum == 1.0
