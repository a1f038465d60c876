"""The contexts that responses are scored after: what a space makes of their prompts."""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Mapping, Sequence
from typing import Any

from dsrl.data.encoding import PromptEncoder
from dsrl.objectives.spaces import Space
from dsrl.registry import build, full_spec, parse_spec
from dsrl.registry.blame import PartError, label_of
from dsrl.seeding import derive_seed
from dsrl.types import Prompt, Rollouts


def contexts_in(
    space: Any, rollouts: Rollouts, encoder: PromptEncoder, *, seed: int, iteration: int
) -> list[Sequence[int]]:
    """Build the context of each of N responses in a space.

    Args:
        space: the spec of a registered space.
        rollouts: the responses and their prompts.
        encoder: makes token ids of messages, and knows the start token, which stands in for an empty context.
        seed: of the run; a space draws by (seed, iteration, position of the prompt) alone.
        iteration: from 0.
    """
    context_of = build("space", space)
    contexts = [
        _context(context_of, prompt, encoder, random.Random(derive_seed("space", seed, iteration, prompt.position)))
        for prompt in rollouts.prompts
    ]
    return [context or (encoder.start_token_id,) for context in contexts for _ in range(rollouts.responses_per_prompt)]


def _context(space: Space, prompt: Prompt, encoder: PromptEncoder, rng: random.Random) -> tuple[int, ...]:
    """The context that a space gives to a prompt. Raises PartError where it is no sequence of token ids."""
    found = space(prompt, encoder, rng)
    if found is prompt.token_ids:
        return prompt.token_ids
    try:
        ids = tuple(map(operator.index, found))
    except TypeError:
        raise _no_context(space, f"not {found!r:.60}") from None
    if ids and min(ids) < 0:
        raise _no_context(space, f"from 0 on, not {min(ids)}")
    return ids


def _no_context(space: Space, came: str) -> PartError:
    return PartError(f"{label_of(space, 'space')} must return token ids, a sequence of whole numbers, {came}")


def space_name(space: Any) -> str:
    """Name a space for people: as it is registered, or as its function is called."""
    return parse_spec("space", space)[0] if isinstance(space, str | Mapping) else getattr(space, "__name__", "space")


def space_key(space: Any) -> str:
    """Name a space with its parameters: terms whose spaces have the same name share their passes."""
    spec = full_spec("space", space) if isinstance(space, str | Mapping) else space
    return json.dumps(spec, sort_keys=True, default=repr)
