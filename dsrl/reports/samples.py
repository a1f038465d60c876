"""Pack responses for the page: repeated texts once, long ones cut, and as many as the page has room for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from dsrl.reports.evaluations import Place
from dsrl.reports.reading import RunRecord, number_of, whole_of
from dsrl.runs.lines import Line

TEXT_LIMIT = 100_000
"""Characters of a text that a page holds; the rest stays in samples.jsonl."""
TOKEN_LIMIT = 2_000
"""Tokens of a response that a page holds."""
NUMBER_SIZE = 9
"""Bytes of a token's text, and of each of its numbers, about."""
OF_EACH_TOKEN = ("logprobs", "entropies", "changes", "pulls")
"""What samples.jsonl has of each token, by space."""
SAMPLE_BYTES, TOKEN_BYTES = 4_000_000, 3_000_000
"""What responses, and what their tokens, may take of the page."""

COLUMNS = (
    *("run", "iteration", "phase", "set", "question", "number", "prompt", "response", "answer", "truth", "reward"),
    *("components", "length", "finish", "source", "advantage", "kept", "thoughts", "tokens", "cut"),
)
"""Fields of a packed response. `iteration` is the number of iterations before it. `set`, `prompt`, `truth`, `finish`,
and `source` are places in `texts`, `tokens` is one in `tokens`. `thoughts` are places in the response: begin, end and
the place of its class in `classes`, of each in turn, in UTF-16 units, as scripts count."""


def pack_samples(
    runs: Sequence[RunRecord], notes: list[str], wanted: Collection[Place] = ()
) -> tuple[dict[str, Any], dict[Place, int]]:
    """Pack the responses of runs: `columns`, `rows`, `texts`, `classes` of thoughts, `tokens`. Notes say what was
    left out.

    The responses at the `wanted` places are in any case there; the second result says in which row each of these is.
    """
    texts: dict[str, int] = {}
    classes: dict[str, int] = {}
    groups: dict[tuple[Any, ...], list[tuple[list[Any], Line]]] = {}
    for number, run in enumerate(runs):
        for line in run.samples:
            row = _row(number, line, classes, texts)
            groups.setdefault(tuple(row[:5]) + (row[6],), []).append((row, line))
    sizes = [sum(len(json.dumps(row)) for row, _ in group) for group in groups.values()]
    chosen = spread(list(groups.values()), sizes, SAMPLE_BYTES)
    there = {id(group) for group in chosen}
    kept = [
        (row, line)
        for group in groups.values()
        for row, line in group
        if id(group) in there or _place(row, line) in wanted
    ]
    total = sum(map(len, groups.values()))
    if len(kept) < total:
        notes.append(
            f"{len(kept):,} of {total:,} responses are on this page, whole groups spread evenly over the run; "
            "samples.jsonl has all"
        )
    tokens = _pack_tokens(kept, notes)
    rows = [row for row, _ in kept]
    used = {place for row in rows for place in (row[3], row[6], row[9], row[13], row[14])}
    shown = [text if place in used else "" for text, place in texts.items()]
    places = {place: at for at, (row, line) in enumerate(kept) if (place := _place(row, line)) in wanted}
    return {"columns": COLUMNS, "rows": rows, "texts": shown, "classes": [*classes], "tokens": tokens}, places


def _place(row: list[Any], line: Line) -> Place:
    name = line.get("set")
    return row[0], name if isinstance(name, str) else None, row[4], row[5]


def spread(items: Sequence[Any], sizes: Sequence[int], budget: int) -> list[Any]:
    """Choose items spread evenly over all, of a total size of at most `budget`; all where they fit."""
    total = sum(sizes)
    if total <= budget:
        return list(items)
    chosen, credit, left = [], 0.0, budget
    for item, size in zip(items, sizes, strict=True):
        credit += size * budget / total
        if size <= min(credit, left):
            credit, left = credit - size, left - size
            chosen.append(item)
    return chosen


def _row(run: int, line: Line, classes: dict[str, int], texts: dict[str, int]) -> list[Any]:
    def place(key: str) -> int:
        return texts.setdefault(_text(line.get(key))[:TEXT_LIMIT], len(texts))

    response = line["response"]
    shown = response[:TEXT_LIMIT]
    at = whole_of(line.get("iteration"))
    components = line.get("components")
    kept = line.get("kept")
    return [
        run,
        at if at is None or "set" not in line else at + 1,
        whole_of(line.get("phase")),
        place("set"),
        whole_of(line.get("question")),
        whole_of(line.get("response_number", line.get("sample"))),
        place("prompt"),
        shown,
        _text(line.get("extracted_answer"))[:2_000],
        place("ground_truth"),
        _short(line.get("reward")),
        {str(name): _short(value) for name, value in components.items()} if isinstance(components, dict) else {},
        whole_of(line.get("length")),
        place("finish_reason"),
        place("data_source"),
        _short(line.get("advantage")),
        kept if isinstance(kept, bool) else None,
        _marks(line, shown, classes),
        None,
        len(response) if len(response) > len(shown) else 0,
    ]


def _pack_tokens(kept: Sequence[tuple[list[Any], Line]], notes: list[str]) -> list[dict[str, Any]]:
    """Pack what is known of tokens, and put each one's place into the row of its response."""
    found = [(row, line) for row, line in kept if isinstance(line.get("tokens"), list) and line["tokens"]]
    sizes = [NUMBER_SIZE * (1 + len(list(_numbers(line)))) * min(len(line["tokens"]), TOKEN_LIMIT) for _, line in found]
    chosen = spread(found, sizes, TOKEN_BYTES)
    packed = [(row, tokens) for row, line in chosen if (tokens := _tokens(line))]
    for number, (row, _) in enumerate(packed):
        row[COLUMNS.index("tokens")] = number
    if len(chosen) < len(found):
        notes.append(f"{len(packed):,} of these responses have their tokens on this page")
    return [tokens for _, tokens in packed]


def _tokens(line: Line) -> dict[str, Any] | None:
    """Token texts with their numbers, as far as a line has them in full: None without any."""
    tokens = line.get("tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        return None
    packed: dict[str, Any] = {"texts": tokens[:TOKEN_LIMIT], "of": len(tokens)}
    for kind, space, values in _numbers(line):
        if len(values) == len(tokens):
            packed[f"{kind}_{space}"] = [_short(value, 4) for value in values[:TOKEN_LIMIT]]
    if len(packed) == 2:
        return None
    clipped = line.get("clipped")
    for space, places in clipped.items() if isinstance(clipped, dict) else ():
        if isinstance(places, list) and f"pulls_{space}" in packed:
            packed[f"clipped_{space}"] = [place for place in places if whole_of(place) is not None]
    return packed


def _numbers(line: Line) -> Iterator[tuple[str, str, list[Any]]]:
    """What a line has of each token: kind, space, and the values."""
    for kind in OF_EACH_TOKEN:
        held = line.get(kind)
        for space, values in held.items() if isinstance(held, dict) else ():
            if isinstance(values, list):
                yield kind, space, values


def _marks(line: Line, text: str, classes: dict[str, int]) -> list[int]:
    """Begin, end and class of each thought, in order and without overlap, in UTF-16 units."""
    thoughts = line.get("thoughts")
    found: list[tuple[int, int, int]] = []
    for name, places in thoughts.items() if isinstance(thoughts, dict) else ():
        number = classes.setdefault(str(name), len(classes))
        if isinstance(places, list) and all(isinstance(place, int) for place in places):
            found += [(*pair, number) for pair in zip(places[::2], places[1::2], strict=False)]
    marks, last = [], 0
    plain = text.isascii() or max(text, default="") <= "\uffff"
    for begin, end, number in sorted(found):
        if last <= begin < end <= len(text):
            marks += [*((begin, end) if plain else (_units(text, begin), _units(text, end))), number]
            last = end
    return marks


def _units(text: str, place: int) -> int:
    return place + sum(character > "\uffff" for character in text[:place])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _short(value: Any, digits: int = 5) -> float | None:
    number = number_of(value)
    return None if number is None else float(f"{number:.{digits}g}")
