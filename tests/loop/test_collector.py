"""A collector alone: no trainer, no model, a sampler and a verifier of three lines each."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from dsrl.errors import DSRLError
from dsrl.loop.collector import Collector, RolloutBatch
from dsrl.loop.metrics import reduce_metrics
from dsrl.thoughts import Pattern
from dsrl.types import Metric, Prompt, Rollouts, SamplingParams
from dsrl.verifiers import Verifier

NAN = math.nan
PARAMS = SamplingParams(responses_per_prompt=2, max_new_tokens=4, iteration=3)


@dataclass
class Echo:
    """Answers a prompt's text, and that text with an exclamation mark; as many tokens as characters."""

    asked: list = field(default_factory=list)

    def sample(self, prompts, params):
        self.asked.append([prompt.text for prompt in prompts])
        texts = [text for prompt in prompts for text in (prompt.text, prompt.text + "!")]
        lengths = torch.tensor([len(text) for text in texts], dtype=torch.long)
        mask = torch.arange(int(lengths.max()) if texts else 0) < lengths[:, None]
        return Rollouts(
            prompts=prompts,
            tokens=mask.long(),
            mask=mask,
            logprobs=torch.zeros(mask.shape),
            texts=texts,
            finish_reasons=["stop"] * len(texts),
        )


@dataclass(kw_only=True)
class EndsWith(Verifier):
    """1 for a response that ends with its ground truth."""

    def score_one(self, response, prompt):
        return float(response.endswith(prompt.ground_truth))

    def extract_answer(self, response):
        return response[-1:]


@dataclass
class Source:
    """Replaces a prompt by the next of a list, and remembers what it was told."""

    others: list
    told: list = field(default_factory=list)

    def update(self, prompts, rewards):
        self.told.append(([prompt.text for prompt in prompts], rewards.tolist()))

    def replacement_for(self, prompt, iteration):
        assert iteration == 3
        return self.others.pop(0)

    def metrics(self):
        return {"curriculum/passed_over": Metric.total(1.0)}


def prompt(position, text, ground_truth):
    return Prompt(position=position, text=text, token_ids=(1,), ground_truth=ground_truth)


MIXED, RIGHT, WRONG = prompt(0, "ab", "b"), prompt(1, "c", ""), prompt(2, "d", "x")


def test_a_batch_holds_rollouts_rewards_and_answers():
    batch = Collector(sampler=Echo(), verifier=EndsWith()).collect([MIXED, WRONG], PARAMS)
    assert batch.rewards.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert batch.extracted_answers == ["b", "!", "d", "!"]
    assert batch.params is PARAMS
    found = reduce_metrics(batch.metrics)
    assert (found["reward/mean"], found["group/all_wrong"], found["tokens/sampled"]) == (0.25, 0.5, 2 + 3 + 1 + 2)


def test_without_a_source_nothing_is_replaced():
    sampler = Echo()
    Collector(sampler=sampler, verifier=EndsWith(), dynamic_sampling=5).collect([WRONG], PARAMS)
    assert sampler.asked == [["d"]]


def test_groups_without_signal_are_replaced_until_all_have_one():
    sampler, source = Echo(), Source([prompt(9, "e", "z"), prompt(10, "fg", "g"), prompt(11, "hi", "i")])
    collector = Collector(sampler=sampler, verifier=EndsWith(), dynamic_sampling=5)
    batch = collector.collect([WRONG, MIXED, RIGHT], PARAMS, source)
    assert sampler.asked == [["d", "ab", "c"], ["e", "fg"], ["hi"]]
    assert [prompt.text for prompt in batch.rollouts.prompts] == ["hi", "ab", "fg"]
    assert batch.rewards.tolist() == [[1.0, 0.0]] * 3
    assert batch.extracted_answers == ["i", "!", "b", "!", "g", "!"]
    assert batch.rollouts.texts == ["hi", "hi!", "ab", "ab!", "fg", "fg!"]
    assert [texts for texts, _ in source.told] == sampler.asked  # the curriculum learns of all of them
    found = reduce_metrics(batch.metrics)
    assert found["dynamic_sampling/prompts"] == 3
    assert found["tokens/sampled"] == (1 + 2) + (2 + 3) + (1 + 2) + (1 + 2) + (2 + 3) + (2 + 3)
    assert found["response/length_mean"] == 2.5  # of what is kept
    assert found["curriculum/passed_over"] == 1


def test_replacing_ends_at_its_bound():
    source = Source([prompt(9, "e", "z"), prompt(10, "f", "z")])
    batch = Collector(sampler=Echo(), verifier=EndsWith(), dynamic_sampling=1).collect([WRONG], PARAMS, source)
    assert [prompt.text for prompt in batch.rollouts.prompts] == ["e"] and len(source.others) == 1


def test_a_rank_without_prompts_takes_part():
    batch = Collector(sampler=Echo(), verifier=EndsWith(), dynamic_sampling=1).collect([], PARAMS, Source([]))
    assert len(batch.rewards) == 0 and batch.extracted_answers == []


def test_a_rank_with_nothing_to_replace_samples_along(monkeypatch):
    """Every rank calls the sampler as often as the one that has most to replace."""
    monkeypatch.setattr("dsrl.loop.collector.all_max", lambda value: max(value, 1))
    sampler = Echo()
    batch = Collector(sampler=sampler, verifier=EndsWith(), dynamic_sampling=2).collect([MIXED], PARAMS, Source([]))
    assert sampler.asked == [["ab"], [], []] and batch.rewards.tolist() == [[1.0, 0.0]]


def test_a_wrong_number_of_scores_is_refused():
    class Short(EndsWith):
        def score_all(self, responses, prompts):
            return [0.0]

    with pytest.raises(DSRLError, match="1 scores for 2 responses"):
        Collector(sampler=Echo(), verifier=Short()).collect([MIXED], PARAMS)


def test_a_record_holds_plain_values():
    batch = Collector(sampler=Echo(), verifier=EndsWith()).collect([MIXED], PARAMS)
    batch.components = {"math": torch.tensor([[1.0, NAN]]), "code": torch.tensor([[NAN, 0.5]])}
    assert batch.record(1) == {
        "prompt": "ab",
        "response": "ab!",
        "extracted_answer": "!",
        "ground_truth": "b",
        "reward": 0.0,
        "components": {"code": 0.5},
        "length": 3,
        "finish_reason": "stop",
        "data_source": "",
    }


def test_thoughts_are_counted_and_written_down():
    """Those of a group that was replaced are the new one's: `ab` and `ab!` stay, `d` becomes `eb`."""
    collector = Collector(
        sampler=Echo(), verifier=EndsWith(), dynamic_sampling=1, thoughts=Pattern(classes={"b": "b", "!": "!"})
    )
    batch = collector.collect([MIXED, WRONG], PARAMS, Source([prompt(9, "eb", "z")]))
    first = {"b": [1, 2], "!": []}
    assert batch.thoughts == [first, {"b": [1, 2], "!": [2, 3]}, first, {"b": [1, 2], "!": [2, 3]}]
    assert batch.record(0)["thoughts"] == first
    found = reduce_metrics(batch.metrics)
    assert (found["thoughts/b/per_answer"], found["thoughts/!/share"]) == (1.0, 0.5)
    assert found["thoughts/b/per_1000_tokens"] == 4000 / 10
    assert (found["thoughts/b/right_with"], found["thoughts/!/right_with"]) == (0.25, 0.0)


def test_components_that_one_batch_lacks_are_not_applicable_there():
    def batch(texts, components):
        rollouts = Echo().sample([prompt(n, text, "") for n, text in enumerate(texts)], PARAMS)
        size = len(texts)
        found = {name: torch.tensor([[value, value] for value in values]) for name, values in components.items()}
        return RolloutBatch(
            rollouts=rollouts,
            params=PARAMS,
            rewards=torch.zeros(size, 2),
            components=found,
            extracted_answers=[""] * 2 * size,
        )

    old = batch("abc", {"math": [1.0, 0.0, NAN], "code": [NAN, NAN, 0.5]})
    fresh = batch("de", {"math": [0.25, NAN], "logic": [NAN, 0.75]})
    found = old.replacing([2, 0], fresh).components
    assert {name: [repr(value) for value, _ in values.tolist()] for name, values in found.items()} == {
        "math": ["nan", "0.0", "0.25"],
        "code": ["nan", "nan", "nan"],
        "logic": ["0.75", "nan", "nan"],
    }
    assert old.replacing([], fresh) is old
