"""Read what a record asks: text, or chat messages in the forms that files hold them in."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dsrl.errors import ConfigError

Chat = list[dict[str, str]]
"""Messages with `role` and `content`, both text."""

ROLES = {
    **{role: role for role in ("system", "developer", "user", "assistant")},
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model", "bot", "chatbot", "ai"), "assistant"),
}
"""The roles that files write, in lower case, and those that chat templates know."""

TOOLS = ("tool", "function", "ipython", "observation", "tool_call", "tool_response", "function_call", "environment")
"""Roles of turns that hold the calls or the results of tools."""

TEXT_PARTS = (None, "text", "input_text", "output_text")
"""Types of the parts of a content that are text."""

WRITTEN_CHAT = re.compile(
    r"""\s*(?P<list>\[\s*)?\{\s*(['"])(?P<key>role|from|content|value|messages|conversations)\2\s*:"""
)
"""How messages begin that were written as text: as JSON, or as Python prints them."""


def question_of(value: Any, column: str, read_as: Counter[str]) -> str | Chat | None:
    """Read a question: text as it is, or messages in one form, `role` and `content`; None where it is neither.

    Understood are `from` and `value` (ShareGPT), roles of other names (`human`, `gpt`), contents that are lists of
    text parts, and messages that were written as text.

    Args:
        value: what the record holds.
        column: where it holds it, for messages.
        read_as: counts, by what is said of it, what was read as something else than it stands there as.

    Raises:
        ConfigError: a chat that cannot be asked: with images, tools, unknown roles, or messages without content.
    """
    if isinstance(value, str):
        written = _written_chat(value, column)
        if written is None:
            return value if value.strip() else None
        read_as["hold their messages written as text, which is read as messages"] += 1
        value = written
    if isinstance(value, Mapping):
        inner = value.get("messages") or value.get("conversations")
        value = inner if isinstance(inner, list) else [value]
    elif not isinstance(value, list):
        return None
    malformed = ConfigError(f"{column} must be messages with role and content, found {value!s:.200}")
    if not value or not all(isinstance(message, Mapping) for message in value):
        raise malformed
    chat: Chat = []
    for number, message in enumerate(value, start=1):
        role = _role(message, f"{column}, turn {number}", read_as)
        content = _content(message, f"{column}, turn {number}")
        if role is None or content is None:
            raise malformed
        if not content.strip() and role == "assistant" and number == len(value):
            continue  # a place for the answer
        if not content.strip() and role != "system":
            raise malformed
        chat.append({"role": role, "content": content})
    if not chat:
        raise malformed
    return chat


def parse_text(text: str) -> Any:
    """Parse a value that was written as JSON, or as Python prints it; None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _written_chat(text: str, column: str) -> list[Any] | Mapping[str, Any] | None:
    """Parse messages that were written as text; None for any other text. Raises ConfigError for broken ones."""
    found = WRITTEN_CHAT.match(text)
    if found is None:
        return None
    parsed = parse_text(text)
    messages = parsed if isinstance(parsed, list) else [parsed]
    if isinstance(parsed, Mapping) and isinstance(parsed.get("messages") or parsed.get("conversations"), list):
        return parsed
    if all(isinstance(message, Mapping) and {"role", "from"} & {*message} for message in messages):
        return parsed  # type: ignore[no-any-return]
    if found["list"] and found["key"] in ("role", "from", "content"):
        raise ConfigError(
            f"{column} looks like messages that were written as text, but is neither JSON nor a Python list: "
            f"{text:.200}"
        )
    return None


def _role(message: Mapping[str, Any], place: str, read_as: Counter[str]) -> str | None:
    """Name the role of a message as templates do; None where it has none. Raises ConfigError for an unknown one."""
    if message.get("tool_calls") or message.get("function_call"):
        raise ConfigError(f"{place}: calls a tool; chats with tools are not asked")
    given = message.get("role") or message.get("from")
    if not isinstance(given, str) or not given.strip():
        return None
    if (known := given.strip().lower()) in TOOLS:
        raise ConfigError(f"{place}: is a tool's (role {given!r}); chats with tools are not asked")
    role = ROLES.get(known)
    if role is None:
        raise ConfigError(f"{place}: role {given!r} is none of {', '.join(ROLES)}")
    if role != given:
        read_as[f"have turns by {given!r}, which is read as {role!r}"] += 1
    return role


def _content(message: Mapping[str, Any], place: str) -> str | None:
    """Read a message's content as text, its parts joined; None where it has none. Raises ConfigError for images."""
    content = message.get("value") if message.get("content") is None else message["content"]
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    return "".join(_part(part, place) for part in content)


def _part(part: Any, place: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind in TEXT_PARTS and isinstance(text, str):
        return text
    if kind is None and isinstance(part, Mapping):
        kind = next((str(key) for key, value in part.items() if value is not None), kind)
    raise ConfigError(f"{place}: holds a part of type {kind!r}; questions are asked as text alone")
