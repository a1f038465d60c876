"""Use an objective's loss in a loop of your own: no Lightning, no configuration, no language model.

    python examples/loss_alone.py [OBJECTIVE]

The policy is one distribution over ten tokens, the same at each of four places; a response is right if its tokens add
up to an even number. Any objective will do that needs no reference model.
"""

import sys

import torch

from dsrl import build
from dsrl.types import Counts, LossBatch

PROMPTS, RESPONSES, LENGTH, VOCABULARY = 8, 16, 4, 10  # B, G, T, V


def train(name: str = "grpo", steps: int = 60) -> list[float]:
    """Return the mean reward of each step."""
    torch.manual_seed(0)
    objective = build("objective", name)
    logits = torch.randn(VOCABULARY, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    means = []
    for _ in range(steps):
        policy = torch.distributions.Categorical(logits=logits)
        tokens = policy.sample((PROMPTS * RESPONSES, LENGTH))  # [N, T]
        rewards = (tokens.sum(-1) % 2 == 0).float().view(PROMPTS, RESPONSES)  # [B, G]
        advantages = objective.advantages(rewards)  # [B, G]
        kept = objective.kept(rewards, advantages).flatten()  # [N]

        logprobs = policy.log_prob(tokens)[kept]  # [kept, T]
        mask = torch.ones_like(logprobs, dtype=torch.bool)
        batch = LossBatch(
            old_logprobs=logprobs.detach(), mask=mask, advantages=advantages.flatten()[kept], counts=Counts.of(mask)
        )
        optimizer.zero_grad()
        objective.loss(logprobs, batch).loss.backward()
        optimizer.step()
        means.append(rewards.mean().item())
    return means


if __name__ == "__main__":
    rewards = train(*sys.argv[1:2])
    print(f"mean reward: {rewards[0]:.2f} at first, {rewards[-1]:.2f} at the end")
