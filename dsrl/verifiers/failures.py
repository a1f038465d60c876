"""What verifiers fail on: counted, kept for people to read, and a reason to stop where it is too much."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dsrl.errors import DSRLError

logger = logging.getLogger(__name__)

KEPT = 20
"""Failures that are kept in full until they are taken; the others are counted."""
RECENT = 64
"""Responses, at least, whose share of failures is held against a limit, once so many have been checked."""
SHOWN = 200
"""Characters of a response in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Tell how the check of one response failed.

    Args:
        message: the exception with its file and line, or how the process was lost.
        traceback: of the exception, the lines of the verifier's own code alone; empty where a process was lost.
        response: what was checked.
        question: the text of its prompt; empty where that is not known.
    """

    message: str
    traceback: str
    response: str
    question: str = ""

    @property
    def raised(self) -> bool:
        """Whether the verifier raised, or returned what is no score; else its process crashed or took too long."""
        return bool(self.traceback)


@dataclass(kw_only=True, slots=True)
class Failures:
    """What a verifier failed on since it was last asked.

    Args:
        verifier: its name in messages.
        checked: responses that it checked.
        raised: of those, the ones on which it raised.
        lost: those over which its process crashed or took too long.
        kept: the first of both, at most KEPT.
    """

    verifier: str
    checked: int = 0
    raised: int = 0
    lost: int = 0
    kept: list[Failure] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Responses that were scored without having been checked."""
        return self.raised + self.lost

    def counts(self) -> str:
        """Write the counts, for people."""
        lost = f", and its process crashed or took too long on {self.lost:,}" if self.lost else ""
        return f"{self.verifier} raised on {self.raised:,} of {self.checked:,} responses{lost}"


class FailureLog:
    """Count what a verifier fails on, log the first, and stop the run where the limit is passed.

    Args:
        verifier: its name in messages.
        limit: the largest share of responses on which it may raise.
    """

    def __init__(self, verifier: str, limit: float) -> None:
        self.limit, self._told = limit, False
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._since = Failures(verifier=verifier)

    def add(self, found: Sequence[Failure | None]) -> None:
        """Take note of a batch of responses, with the failure of each that has one.

        The limit holds of the last RECENT responses, or of the batch where that is larger: one row in which something
        is wrong stops no run that has gone on well, nor does chance. While there are fewer, it stops if it raised on
        all of several, or if the limit is 0.

        Raises DSRLError where the limit is passed.
        """
        raised = [failure for failure in found if failure is not None and failure.raised]
        lost = [failure for failure in found if failure is not None and not failure.raised]
        since = self._since
        since.checked, since.raised = since.checked + len(found), since.raised + len(raised)
        since.lost += len(lost)
        since.kept += [*raised, *lost][: KEPT - len(since.kept)]
        self._recent = deque(self._recent, maxlen=max(RECENT, len(found)))
        self._recent.extend(failure is not None and failure.raised for failure in found)
        bad, checked = sum(self._recent), len(self._recent)
        decided = checked >= RECENT or (bad == checked > 1) or self.limit == 0
        if raised and decided and bad > self.limit * checked:
            many = f"each of {checked}" if bad == checked else f"{bad} of the last {checked}"
            raise DSRLError(
                f"{since.verifier} failed on {many} responses: {said(raised[0])}. Let it return 0, or None for no "
                f"reward, where it cannot read a response; max_failed={self.limit:g} is the largest share on which it "
                "may raise"
            )
        if (raised or lost) and not self._told:
            self._told = True
            logger.warning("%s, which score 0; the first: %s", since.counts(), said((raised or lost)[0]))

    def take(self) -> Failures:
        """Give what has been found since the last call."""
        taken, self._since = self._since, Failures(verifier=self._since.verifier)
        return taken


def said(failure: Failure) -> str:
    """Write a failure in a line: the exception, and the response, shortened."""
    text = failure.response if len(failure.response) <= SHOWN else f"{failure.response[:SHOWN]}..."
    return f"{failure.message} on the response {text!r}"
