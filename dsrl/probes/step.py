"""Level 3: what the step that was taken did to the log-probabilities of right and of wrong answers."""

from __future__ import annotations

from torch import Tensor

from dsrl.loop.probe import Subject
from dsrl.probes.by_prompt import Sums, sums_of
from dsrl.types import CORRECT_THRESHOLD

SPACES = ("conditional", "marginal")


def score_responses(subject: Subject, rows: Tensor) -> dict[str, Tensor]:
    """Compute log P(y|x) and log P(y) [N] of this rank's responses, where `rows` [N] is true; 0 elsewhere.

    In nats, summed over tokens, by the weights of the moment. A collective: two forwards.
    """
    scorer, batch = subject.scorer, subject.experience.batch
    return {
        space: scorer.frozen_logprobs(scorer.policy, scorer.view(space, batch), rows).double().sum(-1)
        for space in SPACES
    }


def step_sums(before: dict[str, Tensor], after: dict[str, Tensor], rows: Tensor, rewards: Tensor) -> Sums:
    """Add up the changes, for each prompt.

    Args:
        before: of each space, log-probabilities [N].
        after: the same, once the optimizer has stepped.
        rows: [N] bool, those that were scored.
        rewards: [B, G].

    Returns:
        `step/SPACE/right` and `step/SPACE/wrong`: the change of a response's log-probability, in nats.
    """
    right, wrong = (rewards > CORRECT_THRESHOLD).flatten(), (rewards <= CORRECT_THRESHOLD).flatten()
    return {
        f"step/{space}/{label}": sums_of(after[space] - before[space], rows & chosen, len(rewards))
        for space in SPACES
        for label, chosen in (("right", right), ("wrong", wrong))
    }
