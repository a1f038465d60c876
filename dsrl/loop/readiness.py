"""What is looked at once, when the model is on its device and nothing is sampled or trained yet."""

from __future__ import annotations

from dsrl.config.run_config import RunConfig
from dsrl.data.datamodule import PromptData
from dsrl.data.encoding import PromptEncoder
from dsrl.loop.rounding import warn_of_lost_updates
from dsrl.models.agreement import check_rows
from dsrl.models.policy import Policy
from dsrl.types import SamplingParams


def check_ready(config: RunConfig, policy: Policy, encoder: PromptEncoder, data: PromptData) -> None:
    """Check that tokens, rows and responses are to the model what they are to the loop. Every rank calls it.

    Raises ConfigError where a prompt or a stop token has no embedding, where padding changes what rows score, or where
    the sampler draws from other probabilities than the policy's. Says so where updates are too small for the weights.
    """
    for phase in config.phases:
        SamplingParams.of(phase.sampling, encoder, 1, seed=config.seed)  # which looks for its stop tokens
    data.check_prompts()
    check_rows(policy, padded=config.update.micro_batch_tokens != 1)
    config.sampler.check_logprobs()
    warn_of_lost_updates(policy.parameters(), config.phases)
