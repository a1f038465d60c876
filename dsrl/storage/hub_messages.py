"""What libraries say while the Hugging Face hub does not answer, in one line instead of two for each attempt."""

from __future__ import annotations

import logging

ASKS = "huggingface_hub.utils._http"
"""The logger of each attempt, and of each wait before the next."""


class FirstAttempt(logging.Filter):
    """Let the first attempt that fails be told, once for each process, with what can be done; no other."""

    def __init__(self) -> None:
        super().__init__()
        self.told = False

    def filter(self, record: logging.LogRecord) -> bool:
        """See the class."""
        said = record.getMessage()
        if "thrown while requesting" not in said and not said.startswith("Retrying in"):
            return True
        first, self.told = not self.told, True
        record.msg, record.args = (
            "the Hugging Face hub does not answer and is asked again, for half a minute at most (HF_HUB_OFFLINE=1 asks "
            f"the cache alone): {said.partition(' thrown while')[0]}",
            None,
        )
        return first


def tell_once() -> None:
    """Put the filter in its place, once."""
    logger = logging.getLogger(ASKS)
    if not any(isinstance(present, FirstAttempt) for present in logger.filters):
        logger.addFilter(FirstAttempt())
