"""The groups of parameters that a gradient is looked at by."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from dsrl.errors import ConfigError, nearest
from dsrl.parallel.plain_names import plain_name

GROUPINGS = ("kinds", "blocks")
"""`kinds`: embeddings, attention, mlp, norms, head, other; `blocks`: attention, mlp and norms of each block apart."""
BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.(.*)$")
KINDS = (("attention", r"attn|attention|mixer|conv"), ("mlp", r"mlp|feed_forward|ffn|experts|moe|fc\d"))


class Grouping:
    """Say which group each parameter belongs to, by its name in the model."""

    def __init__(self, model: nn.Module, by: str) -> None:
        """Find the model's embeddings and its head. Raises ConfigError for an unknown grouping."""
        if by not in GROUPINGS:
            raise ConfigError(f"groups={by}: allowed are {', '.join(GROUPINGS)}.{nearest(by, GROUPINGS)}")
        from dsrl.parallel.sharding import unwrapped

        self.by_block = by == "blocks"
        inner: Any = unwrapped(model)
        whose = {id(module): plain_name(name) for name, module in inner.named_modules()}
        self.embeddings = whose.get(id(inner.get_input_embeddings()), "")
        self.head = whose.get(id(inner.get_output_embeddings()), "")

    def __call__(self, name: str) -> str:
        """Find the group of a parameter. Weights that embeddings and head share are those of `embeddings`."""
        owner = name.rpartition(".")[0]
        for group in ("embeddings", "head"):
            module = getattr(self, group)
            if module and (owner == module or owner.startswith(f"{module}.")):
                return group
        place = BLOCK.search(name)
        rest = place[2] if place else name
        last = rest.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
        if re.search(r"norm|(^|_)ln", last):
            kind = "norms"
        else:
            kind = next((kind for kind, words in KINDS if re.search(words, rest)), "other")
        if self.by_block and place:
            return f"block{place[1]}.{kind}"
        return kind
