"""Deal with chats whose last turn is the assistant's: a beginning for the model to go on with, or the answer itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dsrl.data.chats import Chat
from dsrl.errors import ConfigError

LAST_TURNS = ("auto", "continue", "drop", "refuse")
"""What may be done with a last turn by the assistant."""

BOXED = re.compile(r"\\boxed\s*\{[^{}]*(\{[^{}]*\}[^{}]*)*\}")
"""A whole `\\boxed{...}`, one brace deep."""


def ends_with_assistant(question: str | Sequence[Mapping[str, str]]) -> bool:
    """Tell whether the last turn of a question is the assistant's, which the model goes on with."""
    return not isinstance(question, str) and len(question) > 0 and question[-1]["role"] == "assistant"


def end_question(question: str | Chat, truth: str, last_turn: str) -> str | Chat:
    """Deal with a last turn by the assistant; any other question stays as it is.

    Args:
        question: text or messages.
        truth: the ground truth.
        last_turn: `continue` leaves it for the model to go on with; `auto`, too, unless it gives the answer; `drop`
            leaves it out; `refuse` raises.

    Raises:
        ConfigError: the turn is refused, or nothing is asked without it.
    """
    if isinstance(question, str) or not ends_with_assistant(question) or last_turn == "continue":
        return question
    content = question[-1]["content"]
    if last_turn == "refuse":
        raise ConfigError(f"the last turn is the assistant's (data.last_turn=refuse): {content!r:.200}")
    if last_turn == "drop":
        if len(question) == 1:
            raise ConfigError("the only turn is the assistant's, so that nothing is asked (data.last_turn=drop)")
        return question[:-1]
    if gives_answer(content, truth):
        raise ConfigError(
            f"the last turn is the assistant's and gives the answer, {content[-200:]!r}: data.last_turn=drop asks "
            f"without that turn, data.last_turn=continue has the model go on after it"
        )
    return question


def gives_answer(text: str, truth: str) -> bool:
    """Tell whether a text gives an answer: the ground truth as words or numbers of their own, or a whole `\\boxed{}`.

    One or two characters, such as the 1 of `Step 1:`, must stand where an answer does: at the end, in brackets, or
    after `is`, `=`, `:` or `#`.
    """
    if BOXED.search(text):
        return True
    plain, wanted = (re.sub(r"(?<=\d),(?=\d{3}\b)", "", " ".join(part.split())) for part in (text, truth))
    if not wanted:
        return False
    alone = rf"(?<!\w)(?<!\d[.,]){re.escape(wanted)}(?!\w)(?![.,]\d)"
    if len(wanted) > 2:
        return bool(re.search(alone, plain, re.IGNORECASE))
    placed = rf"(?:\bis|[=:#>])\s*[*$(]*{alone}|[({{\[]{re.escape(wanted)}[)}}\]]|{alone}[\s.!*$>]*(?:</\w+>)?\s*$"
    return bool(re.search(placed, plain))
