"""Pages and examples register parts of their own."""

from forgetting import own_folder

__all__ = ["own_folder"]
