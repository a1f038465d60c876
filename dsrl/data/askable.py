"""Look at the prompts of all rows before anything is sampled: those that cannot be asked, and those that look wrong.

Every row is rendered, not one of each order of roles: a template is a program, which may refuse a chat for what it says
as well as for who says it. Rendering is the small part of encoding: half a minute of one core for a million rows.
"""

from __future__ import annotations

import logging
from collections import Counter

from dsrl.data.benchmarks import PROMPT
from dsrl.data.encoding import PromptEncoder
from dsrl.data.last_turn import ends_with_assistant
from dsrl.data.mixture import Mixture
from dsrl.data.rows import say_skipped
from dsrl.data.source import Row
from dsrl.errors import ConfigError

logger = logging.getLogger(__name__)


def askable(rows: Mixture, encoder: PromptEncoder, *, label: str, broken: str, says: bool = True) -> Mixture:
    """Leave out the rows that the model's chat template refuses, and warn of prompts that may not be what was meant.

    Args:
        rows: of training, or of one validation set.
        encoder: makes prompts of questions.
        label: the key that the rows come from, for messages: `data.train`.
        broken: `skip` leaves such rows out, with a warning that names them; `refuse` raises at the first.
        says: whether this process warns, of several that read the same rows.

    Raises:
        ConfigError: no row can be asked, or, with `refuse`, one cannot.
    """
    refused: set[int] = set()  # ids, since a mixture is filtered row by row
    problems: list[str] = []
    odd: Counter[str] = Counter()
    opening = _opening(encoder)
    for index, row in enumerate(rows):
        try:
            text = encoder.render(row.question)
        except ConfigError as error:
            refused.add(id(row))
            problems.append(f"{row.place or f'{label}, row {index}'}: {error}{_way_out(row, encoder)}")
            if broken == "refuse":
                raise ConfigError(problems[-1]) from error
            continue
        odd.update(_oddities(row, text, encoder, opening))
    if len(problems) == len(rows):
        raise ConfigError("\n".join([f"{label} holds no rows that can be asked", *problems[:3]]))
    if says:
        say_skipped(problems, len(rows) - len(problems), label)
        for what, count in odd.items():
            logger.warning("%s: %d of %d rows %s", label, count, len(rows), what)
        appended = [] if encoder.templated else encoder.split_ids(encoder.render(rows[0].question))[2]
        if appended:
            ends = encoder.tokenizer.decode(appended)
            logger.warning("%s: the tokenizer ends every text with %s; prompts are asked without it", label, ends)
    return rows.filtered(lambda row: id(row) not in refused) if refused else rows


def _opening(encoder: PromptEncoder) -> str:
    """The token that opens a chat; empty where no template is used, or none that can be asked."""
    try:
        return encoder.opening_text if encoder.templated else ""
    except ConfigError:  # which every row then finds
        return ""


def _way_out(row: Row, encoder: PromptEncoder) -> str:
    """Name the key by which a row could be asked whose chat the template refuses, where it is one."""
    if isinstance(row.question, str):
        return ""
    system = [message["content"] for message in row.question if message["role"] == "system"]
    if not system:
        return ""
    try:
        encoder.render([message for message in row.question if message["role"] != "system"])
    except ConfigError:
        return ""
    if PROMPT in system:
        return "; the benchmark's own instruction is a system message: data.system_prompt='' asks without it"
    return "; it takes the chat without its system message"


def _oddities(row: Row, text: str, encoder: PromptEncoder, opening: str) -> list[str]:
    """Say what of a row's prompt may not be what was meant."""
    messages = [{"role": "user", "content": row.question}] if isinstance(row.question, str) else row.question
    odd = []
    if encoder.templated:
        if opening and any(opening in message["content"] for message in messages):
            odd.append(
                f"hold {opening}, which opens a chat, in their text: they seem to have gone through a chat template "
                f"already (model.chat=false asks them as they stand)"
            )
        eos = encoder.tokenizer.eos_token
        if eos and text.rstrip().endswith(str(eos)) and not ends_with_assistant(messages):
            odd.append(f"end with {eos}, which the model's chat template writes: it opens no turn for the answer")
        others = [message for message in messages if message["role"] != "assistant"]
        odd += [
            f"have a turn by {role!r} that the model's chat template leaves out or changes"
            for role in {message["role"] for message in others if message["content"].strip() not in text}
        ]
    elif any(message["role"] == "assistant" for message in messages[:-1]):
        odd.append("are chats of several turns, asked as plain text without their roles: no chat template is used")
    return odd
