"""The model: loaded, scored, and read by the names of its tensors.

    loading.py            the embedded models, SmolLM2 from its package, a folder, or a name on the hub
    sharded_loading.py    the same where each rank keeps a part, without any rank holding the full model
    families.py           what families differ in: attention, states, what text never reaches
    policy.py             log-probabilities of responses after any context
    lora.py               adapters (LoRA): put in, merged, written
    tiny/, retry/         the embedded models; `python -m dsrl.worlds.pretrain` made them

`load_model` and `load_tokenizer` take a name, or a `ModelConfig` with more settings; `Policy` wraps the model.
"""

from typing import TYPE_CHECKING, Any

from dsrl.models.loading import load_model, load_tokenizer

if TYPE_CHECKING:
    from dsrl.models.policy import Policy

__all__ = ["Policy", "load_model", "load_tokenizer"]


def __getattr__(name: str) -> Any:
    """Import `Policy` when it is asked for: torch's sharding, which it needs, takes a second, and --help does not."""
    if name == "Policy":
        from dsrl.models.policy import Policy

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
