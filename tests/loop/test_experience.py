"""From rewards to micro-batches: how an iteration is cut changes nothing, and only what counts is scored."""

import copy
import random
import threading
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import dsrl.parallel.collectives
from dsrl import build, names, register
from dsrl.loop import micro_batches
from dsrl.loop.balance import deal
from dsrl.loop.collector import RolloutBatch
from dsrl.loop.contexts import contexts_in, space_key
from dsrl.loop.experience import Experience, SpaceView, compute_advantages
from dsrl.loop.loss import compute_loss
from dsrl.loop.metrics import add_metrics
from dsrl.loop.micro_batches import MicroBatch, RowLayout, cut, optimizer_steps
from dsrl.models.policy import Policy
from dsrl.models.rows import lay_out
from dsrl.registry import registered_parts
from dsrl.types import Metric, Prompt, Rollouts, SamplingParams

torch.set_num_threads(1)

ENCODER = SimpleNamespace(start_token_id=1)
B, G, T, V, LONGEST = 5, 4, 7, 29, 12
PARAMS = SamplingParams(responses_per_prompt=G, max_new_tokens=LONGEST)
ALL_AT_ONCE = 10**6
REWARDS = torch.tensor(
    [
        [1, 0, 0, 1],
        [1, 1, 1, 1],  # no signal within the group
        [0, 0, 0, 0],  # none either
        [0, 1, 1, 1],
        [0, 0, 0, 1],
    ],
    dtype=torch.float64,
)
MIXED_GROUPS = {row for row in range(20) if row // G in (0, 3, 4)}
WRONG_IN_MIXED = {1, 2, 12, 16, 17, 18}
RIGHT_IN_MIXED = MIXED_GROUPS - WRONG_IN_MIXED
EVERY = set(range(20))

# Rows that the model must score, in each space that is scored.
SCORED = {
    "prerl": {"marginal": MIXED_GROUPS},
    "nsr_prerl": {"marginal": WRONG_IN_MIXED},
    "psr_prerl": {"marginal": RIGHT_IN_MIXED},
    "grpo": {"conditional": MIXED_GROUPS},
    "nsr": {"conditional": WRONG_IN_MIXED},
    "psr": {"conditional": RIGHT_IN_MIXED},
    "dr_grpo": {"conditional": MIXED_GROUPS},
    "dapo": {"conditional": MIXED_GROUPS},
    "gspo": {"conditional": MIXED_GROUPS},
    "cispo": {"conditional": MIXED_GROUPS},
    "rloo": {"conditional": MIXED_GROUPS},
    "reinforce_pp": {"conditional": EVERY},
    "w_reinforce": {"conditional": EVERY},
    "entropy_bonus": {"conditional": EVERY},
    "mixed": {"conditional": MIXED_GROUPS, "marginal": WRONG_IN_MIXED},
}
WITH_KL = {
    "grpo+k3": {"name": "grpo", "kl": {"coefficient": 0.3, "estimator": "k3"}},
    "nsr_prerl+k2": {"name": "nsr_prerl", "kl": {"coefficient": 0.3, "estimator": "k2"}},
    "prerl+marginal k3": {"name": "prerl", "kl": {"coefficient": 0.3, "estimator": "k3", "space": "marginal"}},
}
SCORED |= {
    "grpo+k3": {"conditional": EVERY},
    "nsr_prerl+k2": {"marginal": WRONG_IN_MIXED, "conditional": EVERY},
    "prerl+marginal k3": {"marginal": EVERY},
}
OBJECTIVES = [*names("objective"), *WITH_KL]


def objective_of(label, **fields):
    return build("objective", WITH_KL.get(label, label), **fields)


def tiny_policy(seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.2,
        max_position_embeddings=64,
    )
    return Policy(LlamaForCausalLM(config).double())


@pytest.fixture(scope="module")
def policy():
    return tiny_policy()


@pytest.fixture(scope="module")
def older(policy):
    """The policy that sampled, far enough from `policy` for some ratios to be clipped, and a reference."""
    torch.manual_seed(7)
    nearby = copy.deepcopy(policy)
    for parameter in nearby.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return nearby


def frozen_rollouts(seed=0):
    rng = random.Random(seed)
    lengths = [rng.randint(1, T) for _ in range(B * G)]
    lengths[1], lengths[5], lengths[12] = 1, T, T
    prompts = [
        Prompt(position=b, text="", token_ids=tuple(rng.randrange(3, V) for _ in range(rng.randint(1, 6))))
        for b in range(B)
    ]
    tokens = torch.zeros(B * G, T, dtype=torch.long)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.tensor([rng.randrange(3, V) for _ in range(length)])
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    return Rollouts(
        prompts=prompts,
        tokens=tokens,
        mask=mask,
        logprobs=torch.zeros(B * G, T),
        texts=["x"] * (B * G),
        finish_reasons=["stop"] * (B * G),
    )


ROLLOUTS = frozen_rollouts()


def share_of(rollouts, rewards, chosen):
    """The part of rollouts and rewards that a rank with these prompts holds."""
    rows = torch.tensor([b * G + g for b in chosen for g in range(G)], dtype=torch.long)
    part = Rollouts(
        prompts=[rollouts.prompts[b] for b in chosen],
        tokens=rollouts.tokens[rows],
        mask=rollouts.mask[rows],
        logprobs=rollouts.logprobs[rows],
        texts=["x"] * len(rows),
        finish_reasons=["stop"] * len(rows),
    )
    return part, rewards[torch.tensor(chosen)]


def score(policy, micro_batch):
    view = micro_batch.view
    return policy.score(view.contexts, view.tokens, view.mask, together=micro_batch.together).logprobs


@torch.no_grad()
def score_all(policy, view):
    return score(policy, MicroBatch(view=view))


def experience_of(objective, rollouts=ROLLOUTS, rewards=REWARDS, older=None):
    views = {}
    for index, (weight, term) in enumerate(objective.terms):
        key = space_key(term.space)
        if key not in views:
            contexts = contexts_in(term.space, rollouts, ENCODER, seed=0, iteration=0)
            views[key] = SpaceView.of(rollouts, contexts)
        views[key].terms.append(compute_advantages(index, weight, term, rollouts, rewards))
    for view in views.values():
        if older is not None:
            view.old_logprobs = view.reference_logprobs = torch.zeros(rollouts.mask.shape, dtype=torch.float64)
            found = score_all(older, view)
            view.old_logprobs[:, : found.shape[1]] = found
    batch = RolloutBatch(rollouts=rollouts, params=PARAMS, rewards=rewards)
    return Experience(batch=batch, views=list(views.values()))


def steps_of(experience, max_tokens=ALL_AT_ONCE, minibatches=1, epochs=1):
    return list(
        optimizer_steps(experience, minibatches=minibatches, epochs=epochs, layout=RowLayout(tokens=max_tokens))
    )


def gradient_of(policy):
    """All gradients in one vector, zeros where there is none; taken away from the policy."""
    parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in policy.parameters()]
    policy.zero_grad()
    return torch.cat(parts).clone()


def update(policy, step):
    """Loss, metrics and gradient of an optimizer step, micro-batch after micro-batch as in the loop."""
    total, metrics = 0.0, {}
    for micro_batch in step.micro_batches:
        share = compute_loss(micro_batch, score(policy, micro_batch), step.counts)
        share.loss.backward()
        total += share.loss.item()
        metrics = add_metrics(metrics, share.metrics)
    return total, metrics, gradient_of(policy)


def assert_same(first, second, tolerance=1e-9):
    assert first[0] == pytest.approx(second[0], abs=tolerance)
    numbers = [
        {name: (float(found.sum), float(found.count)) for name, found in each[1].items()} for each in (first, second)
    ]
    assert numbers[0].keys() == numbers[1].keys()
    for name, number in numbers[0].items():
        assert number == pytest.approx(numbers[1][name], abs=1e-6), name
    torch.testing.assert_close(first[2], second[2], atol=tolerance, rtol=0)


@pytest.mark.parametrize("label", OBJECTIVES)
def test_the_budget_of_tokens_changes_nothing(label, policy, older):
    experience = experience_of(objective_of(label), older=older)
    (whole,) = steps_of(experience)
    expected = update(policy, whole)
    assert len(whole.micro_batches) == len(SCORED.get(label, experience.views))
    assert expected[2].abs().max() > 1e-4
    for max_tokens in (1, 24, 40):
        (step,) = steps_of(experience, max_tokens)
        assert len(step.micro_batches) > len(whole.micro_batches)
        assert step.counts == whole.counts
        assert_same(update(policy, step), expected)


@pytest.mark.parametrize("label", list(SCORED))
def test_only_rows_that_count_reach_the_model(label):
    seen = {}
    pairs = zip(ROLLOUTS.tokens, ROLLOUTS.mask, strict=True)
    responses = {tuple(row[keep].tolist()): number for number, (row, keep) in enumerate(pairs)}
    assert len(responses) == B * G

    (step,) = steps_of(experience_of(objective_of(label)), max_tokens=40)
    for micro_batch in step.micro_batches:
        view = micro_batch.view
        for context, tokens, mask in zip(view.contexts, view.tokens, view.mask, strict=True):
            row = responses[tuple(tokens[mask].tolist())]
            space = "marginal" if context == (1,) else "conditional"
            assert context in ((1,), ROLLOUTS.prompt_of(row).token_ids)
            assert row not in seen.setdefault(space, set())  # once each
            seen[space].add(row)
    assert seen == SCORED[label]


def test_every_preset_has_its_row_in_the_table():
    parts = registered_parts["objective"]
    built_in = [name for name in names("objective") if parts[name].__module__.startswith("dsrl.")]
    assert set(built_in) <= set(SCORED)


def test_counts_are_those_of_the_kept_samples():
    lengths = ROLLOUTS.lengths

    def counted(label):
        return [(c.tokens, c.sequences, c.samples, c.max_new_tokens) for c in steps_of(experience_of(label))[0].counts]

    everything = (float(lengths.sum()), 20.0, 20.0, LONGEST)
    wrong = (float(lengths[sorted(WRONG_IN_MIXED)].sum()), 6.0, 6.0, LONGEST)
    signal = (float(lengths[sorted(MIXED_GROUPS)].sum()), 12.0, 12.0, LONGEST)
    assert counted(objective_of("grpo")) == [everything]  # those with advantage 0 too, which no forward needs
    assert counted(objective_of("nsr_prerl")) == [wrong]
    assert counted(objective_of("dapo")) == [signal]
    assert counted(objective_of("mixed")) == [everything, wrong]
    assert counted(objective_of("nsr_prerl+k2")) == [wrong, everything]


def test_a_response_of_no_token_is_a_sample_and_no_sequence():
    rollouts = frozen_rollouts()
    rollouts.mask[1] = False
    (counts,) = steps_of(experience_of(objective_of("nsr_prerl"), rollouts))[0].counts
    assert (counts.sequences, counts.samples) == (5.0, 6.0)


# The same numbers by hand: loops over sequences and tokens, plain forwards, statistics of lists.


def plain(model, context, response):
    logits = model(input_ids=torch.tensor([[*context, *response]])).logits[0]
    table = logits.log_softmax(-1)
    return [table[len(context) - 1 + t, token] for t, token in enumerate(response)]


def naive(policy, older, *, space, normalised, negative_only, coefficient=1.0):
    total, tokens = 0.0, 0
    clipped = scored = 0
    for b in range(B):
        group = REWARDS[b].tolist()
        mean = sum(group) / G
        deviation = (sum((reward - mean) ** 2 for reward in group) / (G - 1)) ** 0.5
        for g in range(G):
            advantage = (group[g] - mean) / (deviation + 1e-6) if normalised else group[g] - mean
            if negative_only and not advantage < 0:
                continue
            row = b * G + g
            response = ROLLOUTS.tokens[row, : int(ROLLOUTS.lengths[row])].tolist()
            context = (1,) if space == "marginal" else ROLLOUTS.prompts[b].token_ids
            new = plain(policy.model, context, response)
            old = [value.item() for value in plain(older.model, context, response)]
            for now, before in zip(new, old, strict=True):
                ratio = (now - before).exp()
                held = min(max(ratio.item(), 0.8), 1.2)
                loss = -advantage * ratio
                if -advantage * held > loss.item():
                    loss = torch.tensor(-advantage * held, dtype=torch.float64)
                    clipped += 1
                assert not (advantage < 0 and loss.item() > -10 * advantage)
                total, tokens, scored = total + loss, tokens + 1, scored + (advantage != 0)
    total = coefficient * total / tokens
    total.backward()
    return total.item(), {"clip/fraction": Metric(clipped, scored)}, gradient_of(policy)


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("grpo", {"space": "conditional", "normalised": True, "negative_only": False}),
        ("nsr_prerl", {"space": "marginal", "normalised": False, "negative_only": True}),
    ],
)
def test_equal_to_loops_over_sequences_and_tokens(label, parts, policy, older):
    for max_tokens in (1, 50, ALL_AT_ONCE):
        (step,) = steps_of(experience_of(objective_of(label, coefficient=0.5), older=older), max_tokens)
        expected = naive(policy, older, coefficient=0.5, **parts)
        assert expected[1]["clip/fraction"].sum > 0  # the older policy is far enough for it to matter
        assert_same(update(policy, step), expected)


@pytest.mark.parametrize("label", ["grpo", "nsr_prerl"])
def test_on_the_policy_that_sampled_old_logprobs_need_no_pass(label, policy):
    without, given = (
        update(policy, *steps_of(experience_of(objective_of(label), older=old))) for old in (None, policy)
    )
    assert_same(without, given)


def test_terms_that_share_a_pass_each_see_their_own_rows_alone(policy, older):
    """Right answers for one term, wrong ones for the other: together what the two are apart."""
    both = {"name": "mixed", "objectives": {"nsr": {"weight": 0.5}, "psr": {"weight": 2.0}}}
    experience = experience_of(build("objective", both), older=older)
    assert len(experience.views) == 1
    loss, metrics, gradient = update(policy, *steps_of(experience, 40))
    apart = [update(policy, *steps_of(experience_of(objective_of(n), older=older))) for n in ("nsr", "psr")]
    (nsr, nsr_metrics, nsr_gradient), (psr, psr_metrics, psr_gradient) = apart
    summed = add_metrics(nsr_metrics, psr_metrics)
    assert_same((loss, metrics, gradient), (0.5 * nsr + 2 * psr, summed, 0.5 * nsr_gradient + 2 * psr_gradient))


# Nothing kept, idle micro-batches.


@pytest.mark.parametrize("rewards", [torch.zeros(B, G), torch.ones(B, G)])
@pytest.mark.parametrize("label", ["nsr_prerl", "psr_prerl", "dapo", "nsr"])
def test_nothing_kept(label, rewards):
    (step,) = steps_of(experience_of(objective_of(label), rewards=rewards))
    assert step.micro_batches == [] and step.keeps_nothing


def test_kept_without_signal_is_a_step_without_a_forward():
    (step,) = steps_of(experience_of(objective_of("grpo"), rewards=torch.zeros(B, G)))
    assert step.micro_batches == [] and not step.keeps_nothing  # DESIGN section 3: `all` counts advantage 0, too


def stand_in(more, monkeypatch):
    """Let another rank have so many micro-batches more than this one."""
    monkeypatch.setattr(micro_batches, "deal", lambda *rows, **how: [deal(*rows, **how)[0] + [[]] * more])


def test_an_idle_micro_batch_adds_exactly_nothing_and_is_one_token(policy, monkeypatch):
    stand_in(2, monkeypatch)
    (step,) = steps_of(experience_of(objective_of("grpo")))
    real, *idle = step.micro_batches
    assert [micro_batch.idle for micro_batch in step.micro_batches] == [False, True, True]
    step.micro_batches = idle
    total, metrics, gradient = update(policy, step)
    assert (total, metrics) == (0.0, {}) and (gradient == 0).all()
    assert idle[0].view.lengths.tolist() == [1]


def test_an_idle_micro_batch_still_reaches_every_parameter(policy, monkeypatch):
    """So that ranks without work of their own take part in the reduction of every gradient."""
    stand_in(1, monkeypatch)
    (step,) = steps_of(experience_of(objective_of("nsr_prerl"), rewards=torch.zeros(B, G)))
    (idle,) = step.micro_batches
    compute_loss(idle, score(policy, idle), step.counts).loss.backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())
    policy.zero_grad()


# Mini-batches.


def prompts_of(step):
    return {number // G for batch in step.micro_batches for _, numbers in batch.home for number in numbers}


@pytest.mark.parametrize("minibatches", [1, 2, 3, 5])
@pytest.mark.parametrize("epochs", [1, 2])
def test_minibatches_partition_the_prompts_and_keep_groups_together(minibatches, epochs):
    steps = steps_of(experience_of(objective_of("w_reinforce")), 30, minibatches, epochs)
    assert len(steps) == minibatches * epochs
    for epoch in range(epochs):
        part = steps[epoch * minibatches : (epoch + 1) * minibatches]
        rows = [n for step in part for batch in step.micro_batches for _, numbers in batch.home for n in numbers]
        assert sorted(rows) == list(range(B * G))
        sizes = [len(prompts_of(step)) for step in part]
        assert sum(sizes) == B and max(sizes) - min(sizes) <= 1
        for step in part:
            samples = sum(len(micro_batch.view.contexts) for micro_batch in step.micro_batches)
            assert samples == G * len(prompts_of(step)) == step.counts[0].samples


def test_epochs_shuffle_afresh_and_every_time_alike():
    def order():
        return [prompts_of(step) for step in steps_of(experience_of(objective_of("w_reinforce")), 30, 5, 4)]

    first = order()
    assert first == order()
    assert len({tuple(map(min, first[epoch * 5 : epoch * 5 + 5])) for epoch in range(4)}) == 4


def test_minibatch_counts_add_up_to_those_of_the_iteration():
    experience = experience_of(objective_of("mixed"))
    (whole,) = steps_of(experience)
    parts = steps_of(experience, minibatches=3)
    for field in ("tokens", "sequences", "samples"):
        for term in (0, 1):
            assert sum(getattr(step.counts[term], field) for step in parts) == getattr(whole.counts[term], field)


# Ranks, as threads with the collectives of torch.distributed between them.


class Ranks:
    """A stand-in for torch.distributed: every thread is a rank."""

    ReduceOp = SimpleNamespace(SUM="sum", MAX="max")

    def __init__(self, size):
        self.size, self.barrier, self.board = size, threading.Barrier(size, timeout=300), [None] * size
        self.me = threading.local()

    def is_available(self):
        return True

    def is_initialized(self):
        return hasattr(self.me, "rank")

    def get_world_size(self):
        return self.size

    def get_backend_config(self):
        return "cpu:threads"

    def exchange(self, value):
        self.board[self.me.rank] = value
        self.barrier.wait()
        everyone = list(self.board)
        self.barrier.wait()
        return everyone

    def all_reduce(self, tensor, op="sum"):
        everyone = torch.stack(self.exchange(tensor.clone()))
        tensor.copy_(everyone.sum(0) if op == "sum" else everyone.max(0).values)

    def all_gather_object(self, into, value):
        into[:] = self.exchange(copy.deepcopy(value))

    def get_rank(self):
        return self.me.rank

    def all_to_all_single(self, into, values, into_sizes=None, sizes=None):
        sizes = sizes or [1] * self.size
        parts = [given.clone().split(of_rank)[self.me.rank] for given, of_rank in self.exchange((values, sizes))]
        into.copy_(torch.cat(parts))

    def run(self, work):
        """work(rank) of every rank, in the order of ranks."""
        results, errors = [None] * self.size, []

        def target(rank):
            self.me.rank = rank
            try:
                results[rank] = work(rank)
            except BaseException as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=target, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


def on_ranks(size, label, older, monkeypatch, minibatches=1, max_tokens=40):
    """Of each rank, for each optimizer step: (its prompts, counts, micro-batches, (loss, metrics, gradient))."""
    ranks = Ranks(size)
    monkeypatch.setattr(dsrl.parallel.collectives, "dist", ranks)
    policies = [tiny_policy() for _ in range(size)]

    def work(rank):
        rollouts, rewards = share_of(ROLLOUTS, REWARDS, list(range(B))[rank::size])
        experience = experience_of(objective_of(label), rollouts, rewards, copy.deepcopy(older))
        found = []
        for step in steps_of(experience, max_tokens, minibatches):
            homes = [(home, number) for m in step.micro_batches for home, numbers in m.home for number in numbers]
            positions = {list(range(B))[home::size][number // G] for home, number in homes}
            found.append((positions, step.counts, len(step.micro_batches), update(policies[rank], step)))
        return found

    try:
        return ranks.run(work)
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("minibatches", [1, 2])
@pytest.mark.parametrize("label", OBJECTIVES)
def test_ranks_change_nothing(label, minibatches, policy, older, monkeypatch):
    experience = experience_of(objective_of(label), older=older)
    alone = [(prompts_of(step), step.counts, update(policy, step)) for step in steps_of(experience, 40, minibatches)]
    for steps in zip(alone, *on_ranks(2, label, older, monkeypatch, minibatches), strict=True):
        (prompts, counts, expected), *shares = steps
        assert set.union(*(share[0] for share in shares)) == prompts
        assert all(share[1] == counts for share in shares)
        assert len({share[2] for share in shares}) == 1  # as many forwards on every rank
        losses, metrics, gradients = zip(*(share[3] for share in shares), strict=True)
        assert_same((sum(losses), add_metrics(*metrics), sum(gradients)), expected)


def test_a_rank_that_keeps_nothing_scores_for_the_others(older, monkeypatch):
    ranks = on_ranks(5, "nsr_prerl", older, monkeypatch)  # rank 1 holds the group that is all right, rank 2 all wrong
    assert all(positions and positions <= {0, 3, 4} for ((positions, *_),) in ranks)


# Contexts.


@pytest.fixture
def own_space(monkeypatch):
    monkeypatch.setitem(registered_parts, "space", dict(registered_parts["space"]))

    @register("space", "dropout")
    def dropout(prompt, encoder, rng, *, keep: float = 0.5):
        return [token for token in prompt.token_ids if rng.random() < keep]


def long_prompts(positions):
    return [Prompt(position=p, text="", token_ids=tuple(range(3, 23))) for p in positions]


def contexts(space, prompts=ROLLOUTS.prompts, responses=2, **names):
    rollouts = SimpleNamespace(prompts=prompts, responses_per_prompt=responses)
    return contexts_in(space, rollouts, ENCODER, **{"seed": 0, "iteration": 0, **names})


def test_contexts_of_the_built_in_spaces():
    prompts = [prompt.token_ids for prompt in ROLLOUTS.prompts]
    assert contexts("conditional") == [ids for ids in prompts for _ in range(2)]
    assert contexts("marginal") == [(1,)] * 10
    assert contexts("marginal", []) == []


def test_contexts_of_a_space_of_ones_own(own_space):
    found = contexts("dropout", long_prompts(range(4)))
    assert found[::2] == found[1::2]  # all responses of a prompt share its context
    assert len(set(found)) == 4  # of the same prompt at other positions, others
    assert all(set(context) < set(range(3, 23)) for context in found)
    assert found == contexts("dropout", long_prompts(range(4)))
    assert found != contexts("dropout", long_prompts(range(4)), seed=1)
    assert found != contexts("dropout", long_prompts(range(4)), iteration=1)


def test_contexts_depend_on_a_prompts_position_alone(own_space):
    together = dict(zip(range(4), contexts("dropout", long_prompts(range(4)), responses=1), strict=True))
    random.seed(99)
    assert contexts("dropout", long_prompts([3, 1]), responses=1) == [together[3], together[1]]


def test_an_empty_context_becomes_the_start_token(own_space):
    assert contexts({"name": "dropout", "keep": 0.0}) == [(1,)] * 10
    assert contexts({"name": "dropout", "keep": 1.0}) == contexts("conditional")


def test_an_objective_in_a_space_of_ones_own(own_space, policy):
    (step,) = steps_of(experience_of(objective_of("nsr_prerl", space={"name": "dropout", "keep": 1.0})))
    mine = update(policy, step)
    (step,) = steps_of(experience_of(objective_of("nsr_prerl", space="conditional")))
    assert_same(mine, update(policy, step))


def test_terms_of_one_space_share_its_passes(own_space):
    assert space_key("dropout") == space_key({"name": "dropout"}) == space_key({"keep": 0.5, "name": "dropout"})
    assert space_key("dropout") != space_key({"name": "dropout", "keep": 0.25})
    spec = {"grpo": {"weight": 1}, "psr": {"weight": 1, "space": {"name": "conditional"}}}
    (view,) = experience_of(build("objective", {"name": "mixed", "objectives": spec})).views
    assert [term.index for term in view.terms] == [0, 1]


def test_a_space_given_as_a_function():
    def mine(prompt, encoder, rng):
        return [7, prompt.position]

    assert contexts(mine, responses=1)[:2] == [(7, 0), (7, 1)]
    assert space_key(mine) == space_key(mine) != space_key(lambda prompt, encoder, rng: [7])


# The budget.


@pytest.mark.parametrize("seed", range(20))
def test_micro_batches_hold_the_budget_and_every_chosen_row_once(seed):
    rng = random.Random(seed)
    count = rng.randint(1, 40)
    lengths = torch.tensor([rng.choice([1, 3, rng.randint(1, 50)]) for _ in range(count)])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    contexts = [[0] * rng.randint(1, 20) for _ in range(count)]
    view = SpaceView(contexts=contexts, tokens=mask.long(), mask=mask, sampled_logprobs=mask.float())
    rows = torch.tensor([rng.random() < 0.7 for _ in range(count)])
    max_tokens = rng.choice([1, 20, 100, 400, 100_000])
    shared = rng.random() < 0.5
    found, work = cut(view, rows, RowLayout(tokens=max_tokens, shared=shared))
    numbers = [[number for _, numbers in micro_batch.home for number in numbers] for micro_batch in found]
    assert sorted(chain(*numbers)) == rows.nonzero()[:, 0].tolist()
    padded = []
    for micro_batch in found:
        rows_of_it = lay_out(
            micro_batch.view.contexts, micro_batch.view.tokens, micro_batch.view.mask, together=micro_batch.together
        )
        padded.append(rows_of_it.input_ids.numel())
        assert len(micro_batch.together) == 1 or padded[-1] <= max_tokens
    assert work.real <= work.computed == work.slowest == sum(padded)
    assert padded == sorted(padded, reverse=True)  # the largest first: memory runs out at once or never
    if max_tokens == 100_000:
        assert len(found) == (1 if rows.any() else 0)


def test_old_and_reference_logprobs_are_needed_by_these_rows():
    (view,) = experience_of(objective_of("grpo+k3")).views
    assert set(view.rows_needing("needs_old_logprobs").nonzero()[:, 0].tolist()) == MIXED_GROUPS
    assert view.rows_needing("needs_reference").all()
    (view,) = experience_of(objective_of("grpo")).views
    assert not view.rows_needing("needs_reference").any()
