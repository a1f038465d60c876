"""The cells of the regime map before they are measured: one axis at a time around the defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Place:
    """A cell before it is measured.

    Args:
        axis: what is varied.
        value: how, in a word; "-" of the center.
        words: of `python train.py`, for both arms.
        of_dsrl: further words, for dsrl alone.
        rate: learning rate; None: that of the settings.
        world: where it is.
        pretrained: options of `python -m dsrl.worlds.pretrain`: both arms begin with a model that is made for this
            place; without any, with the embedded one.
    """

    axis: str
    value: str
    words: tuple[str, ...] = ()
    of_dsrl: tuple[str, ...] = ()
    rate: float | None = None
    world: str = "arithmetic"
    pretrained: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its axis and value."""
        return self.axis if self.value == "-" else f"{self.axis}: {self.value}"

    @property
    def folder(self) -> str:
        """The name of its folder: its title, so that a map goes on rightly where places were added."""
        return re.sub(r"[^\w.]+", "-", self.title).strip("-")

    @property
    def of_both(self) -> tuple[object, ...]:
        """What decides how grpo is trained here: where it is equal, grpo is the same."""
        return self.words, self.rate, self.world, self.pretrained


RETRY_RATE = 2e-4
"""The learning rate of `model=retry`."""

PLACES = (
    Place(axis="defaults", value="-"),
    Place(axis="warm-up, iterations", value="2", of_dsrl=("phase2.start=2",)),
    Place(axis="warm-up, iterations", value="10", of_dsrl=("phase2.start=10",)),
    Place(axis="learning rate", value="3e-5", rate=3e-5),
    Place(axis="learning rate", value="3e-4", rate=3e-4),
    Place(axis="negative", value="every wrong answer", of_dsrl=("objective.advantage=signed",)),
    Place(
        axis="token weight",
        value="known, share 0.25",
        of_dsrl=("objective.token_weight=known", "objective.token_weight.share=0.25"),
    ),
    Place(axis="token weight", value="entropy, share 0.2", of_dsrl=("objective.token_weight=entropy",)),
    Place(
        axis="advantage of the warm-up",
        value="negative_centered",
        of_dsrl=("objective.advantage=negative_centered", "objective.keep=all"),
    ),
    Place(axis="responses to a prompt", value="4", words=("responses_per_prompt=4", "prompts_per_iteration=64")),
    Place(axis="responses to a prompt", value="16", words=("responses_per_prompt=16", "prompts_per_iteration=16")),
    Place(axis="value of retries", value="a fresh guess (world retry)", world="retry", rate=RETRY_RATE),
    Place(
        axis="token weight",
        value="entropy, share 0.2 (world retry)",
        world="retry",
        rate=RETRY_RATE,
        of_dsrl=("objective.token_weight=entropy",),
    ),
    Place(
        axis="value of retries",
        value="none, the guess that failed (world retry)",
        world="retry",
        rate=RETRY_RATE,
        pretrained=("--repeat-rate", "1"),
    ),
    Place(
        axis="base pass rate",
        value="one in three (world retry)",
        world="retry",
        rate=RETRY_RATE,
        pretrained=("--guesses", "3"),
    ),
    Place(
        axis="known share",
        value="no text without a question (world retry)",
        world="retry",
        rate=RETRY_RATE,
        pretrained=("--no-question", "0"),
    ),
)
"""The cells. Those that vary the responses to a prompt keep the number of responses of an iteration."""
