"""Names of parameters, buffers and modules as they are in the unwrapped model."""

from __future__ import annotations

WRAPPED = "_fsdp_wrapped_module"
"""What FSDP1 calls the module within its wrapper."""


def plain_name(name: str) -> str:
    """Take a name without the wrappers of FSDP1."""
    return name.replace(f"{WRAPPED}.", "").removesuffix(WRAPPED).removesuffix(".")
