"""The sizes of what one rank does in an iteration, at their largest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dsrl.config.run_config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What the rank with most to do has in an iteration, if every prompt and every response is as long as may be.

    Args:
        ranks: W.
        prompts: prompts of the rank.
        responses: responses to each, G.
        prompt_tokens: of each prompt.
        response_tokens: of each response.
        micro_batch_tokens: the budget of a pass.
        rows_of_a_step: responses of the rank that one optimizer step uses.
        steps: optimizer steps in an iteration.
        all_steps: those of the whole run.
    """

    ranks: int
    prompts: int
    responses: int
    prompt_tokens: int
    response_tokens: int
    micro_batch_tokens: int
    rows_of_a_step: int
    steps: int
    all_steps: int

    @classmethod
    def of(cls, config: RunConfig, *, positions: int | None, micro_batch_tokens: int) -> Workload:
        """Derive the sizes of a run whose model has so many `positions` (None: any number)."""
        response = max(phase.sampling.max_new_tokens for phase in config.phases)
        prompt = config.plan.prompt_tokens or config.data.max_prompt_tokens
        if positions is not None:
            response = min(response, max(1, positions - 1))
            prompt = max(1, min(prompt, positions - response))
        ranks = config.trainer.devices * config.trainer.num_nodes
        prompts = math.ceil(config.prompts_per_iteration / ranks)
        return cls(
            ranks=ranks,
            prompts=prompts,
            responses=config.responses_per_prompt,
            prompt_tokens=prompt,
            response_tokens=response,
            micro_batch_tokens=micro_batch_tokens,
            rows_of_a_step=math.ceil(prompts / config.update.minibatches) * config.responses_per_prompt,
            steps=config.steps_per_iteration,
            all_steps=config.steps_per_iteration * config.iterations,
        )

    @property
    def longest_row(self) -> int:
        """Tokens of the longest row: a prompt and its response."""
        return self.prompt_tokens + self.response_tokens

    def rows(self, context: int) -> tuple[int, int]:
        """Give the largest pass over rows with contexts of that length: how many rows, and the response tokens of each.

        It fills the budget with as few and as long rows as can; a row longer than the budget is a pass of its own.
        """
        longest = context + self.response_tokens
        rows = min(self.rows_of_a_step, math.ceil(self.micro_batch_tokens / longest))
        if rows <= 1:
            return 1, self.response_tokens
        return rows, max(1, min(longest, self.micro_batch_tokens // rows) - context)

    def micro_batches(self, context: int) -> int:
        """Count the passes of an optimizer step over rows with contexts of that length."""
        rows, _ = self.rows(context)
        return math.ceil(self.rows_of_a_step / rows)
