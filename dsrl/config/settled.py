"""Settings that no one changes behind the back of the run folder."""

from __future__ import annotations

from typing import Any

from dsrl.errors import ConfigError


class Settled:
    """Settings that stay as they were composed: a changed one would not be what the run folder says."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field once, when it is made. Raises ConfigError for another value."""
        if name in vars(self):
            raise ConfigError(
                f"{name}={value} cannot be set in a configuration that is composed; compose another with that override"
            )
        super().__setattr__(name, value)
