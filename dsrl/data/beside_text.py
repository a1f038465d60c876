"""Find what stands beside the text of a question, and cannot be asked: images, video, sound, tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dsrl.data.chats import Chat, parse_text
from dsrl.errors import ConfigError

MEDIA_COLUMN = re.compile(
    r"(decoded_)?(image|img|picture|video|audio|speech)s?(_?(paths?|urls?|files?|bytes|data|base64|b64|\d+))*"
    r"|pixel_values|multi_?modal_(data|inputs)",
    re.IGNORECASE,
)
"""Names of columns with images, video or sound."""

MEDIA_PLACE = re.compile(r"<\|?(image|video|audio|img)(_?(pad|soft_token|token|\d+))?\|?>", re.IGNORECASE)
"""What a question holds in the place of an image."""

MEDIA_FILE = re.compile(
    r"(https?|file|s3|gs)://|data:|.*\.(png|jpe?g|gif|webp|bmp|tiff?|svg|mp4|mov|avi|mkv|webm|wav|mp3|flac|ogg|m4a)$",
    re.IGNORECASE,
)


def refuse_beside_text(record: Mapping[str, Any], question: str | Chat) -> None:
    """Raise ConfigError where a record holds images, video, sound or tools, without which its text is another question.

    A text in a column such as `image` counts if it looks like a file, or if the question has a place for it.
    """
    text = question if isinstance(question, str) else "\n".join(message["content"] for message in question)
    for column, value in record.items():
        if MEDIA_COLUMN.fullmatch(str(column).strip()) and _is_media(value, placed=bool(MEDIA_PLACE.search(text))):
            raise ConfigError(
                f"column '{column}' holds what is not text, {value!r:.60}; questions are asked as text alone"
            )
    if _are_tools(record.get("tools")):
        raise ConfigError(f"column 'tools' holds tools, {record['tools']!r:.60}; chats with tools are not asked")


def _is_media(value: Any, *, placed: bool) -> bool:
    if isinstance(value, str):
        text = value.strip()
        named = placed or bool(MEDIA_FILE.match(text)) or len(text) > 200  # base64
        return named and text.lower() not in ("", "[]", "{}", "none", "null", "nan")
    if isinstance(value, Mapping):
        return any(part is not None and part not in ("", b"", [], {}) for part in value.values())
    if isinstance(value, list | tuple):
        return any(_is_media(part, placed=True) for part in value)
    return value is not None and not isinstance(value, bool | int | float)


def _are_tools(value: Any) -> bool:
    tools = parse_text(value) if isinstance(value, str) else value
    return isinstance(tools, list) and any(
        isinstance(tool, Mapping) and {"function", "name"} & {*tool} for tool in tools
    )
