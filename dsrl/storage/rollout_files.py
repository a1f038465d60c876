"""Recorded rollouts on disk: a Parquet file of each iteration and rank, with a row for each response.

    pandas.read_parquet("RUN/rollouts")     every response of the run

docs/record.md has the columns. A file appears under its name when it is complete, and is never changed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dsrl.errors import DSRLError
from dsrl.storage.atomic import atomic
from dsrl.types import Prompt, Rewards, Rollouts, SamplingParams
from dsrl.version import __version__

FORMAT = 1
"""Of the files; one more where a column's meaning changes."""
NAME = re.compile(r"iteration(\d+)-rank(\d+)\.parquet")


@dataclass(frozen=True, kw_only=True)
class RecordHead:
    """What holds for every response of a file; it is in the metadata of the Parquet schema, as JSON under `dsrl`.

    Args:
        params: how the responses were drawn, `iteration` included.
        prompts_per_iteration: B, over all ranks.
        compute_dtype: the sampler's, as `Sampler.compute_dtype` gives it.
        weights_version: iterations that had been trained on when the sampler got its weights.
        phase: number of the phase, from 1.
        objective: its registered name.
    """

    params: SamplingParams
    prompts_per_iteration: int
    compute_dtype: str | None
    weights_version: int
    phase: int
    objective: str


def record_path(folder: Path, iteration: int, rank: int) -> Path:
    """Name the file of an iteration's responses on a rank."""
    return folder / f"iteration{iteration:06d}-rank{rank}.parquet"


def recorded_files(folder: Path) -> dict[int, list[Path]]:
    """List the files of each iteration that was recorded, in the order of iterations and ranks."""
    found: dict[int, list[Path]] = {}
    matches = ((NAME.fullmatch(path.name), path) for path in folder.glob("*.parquet"))
    for iteration, _, path in sorted((int(match[1]), int(match[2]), path) for match, path in matches if match):
        found.setdefault(iteration, []).append(path)
    return found


def write_rollouts(
    path: Path, head: RecordHead, rollouts: Rollouts, rewards: Rewards, columns: Mapping[str, Tensor]
) -> None:
    """Write responses and what they are worth, atomically.

    Args:
        path: of `record_path`.
        head: what holds for all of them.
        rollouts: N responses of this rank.
        rewards: of the N responses.
        columns: further columns by name, each [N].
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, size = len(rollouts.texts), rollouts.responses_per_prompt
    lengths = rollouts.lengths
    offsets = pa.array([0, *lengths.cumsum(0).tolist()], pa.int32())
    group = pa.array([row // size for row in range(rows)], pa.int32())

    def of_tokens(values: Tensor, kind: Any) -> Any:
        """A list for each response."""
        return pa.ListArray.from_arrays(offsets, pa.array(values[rollouts.mask].numpy(), kind))

    def of_prompts(values: Iterable[Any], kind: Any) -> Any:
        """Each of B values for the G responses to its prompt."""
        return pa.array(list(values), kind).take(group)

    prompts = rollouts.prompts
    components = [
        {name: float(values.reshape(-1)[row]) for name, values in rewards.components.items()} for row in range(rows)
    ]
    table = pa.table(
        {
            "iteration": pa.array([head.params.iteration] * rows, pa.int32()),
            "phase": pa.array([head.phase] * rows, pa.int16()),
            "objective": pa.array([head.objective] * rows, pa.string()),
            "weights_version": pa.array([head.weights_version] * rows, pa.int32()),
            "prompt_number": of_prompts((p.position % head.prompts_per_iteration for p in prompts), pa.int32()),
            "response_number": pa.array([row % size for row in range(rows)], pa.int32()),
            "position": of_prompts((prompt.position for prompt in prompts), pa.int64()),
            "question": of_prompts((prompt.row for prompt in prompts), pa.int64()),
            "prompt": of_prompts((prompt.text for prompt in prompts), pa.string()),
            "prompt_tokens": of_prompts((prompt.token_ids for prompt in prompts), pa.list_(pa.int32())),
            "prompt_truncated": of_prompts((prompt.truncated for prompt in prompts), pa.bool_()),
            "messages": of_prompts((_json(prompt.messages) for prompt in prompts), pa.string()),
            "ground_truth": of_prompts((prompt.ground_truth for prompt in prompts), pa.string()),
            "structured_ground_truth": of_prompts((_json(p.structured_ground_truth) for p in prompts), pa.string()),
            "data_source": of_prompts((prompt.data_source for prompt in prompts), pa.string()),
            "extra": of_prompts((_json(dict(prompt.extra)) for prompt in prompts), pa.string()),
            "response": pa.array(rollouts.texts, pa.string()),
            "tokens": of_tokens(rollouts.tokens, pa.int32()),
            "logprobs": of_tokens(rollouts.logprobs, pa.float32()),
            "finish_reason": pa.array(rollouts.finish_reasons, pa.string()),
            "reward": pa.array(rewards.values.reshape(-1).numpy(), pa.float32()),
            "components": pa.array(components, pa.map_(pa.string(), pa.float32())),
            "extracted_answer": pa.array(rewards.extracted_answers or [None] * rows, pa.string()),
            **{name: pa.array(values.numpy()) for name, values in columns.items()},
        }
    )
    about = {"format": FORMAT, "version": __version__, **dataclasses.asdict(head)}
    with atomic(path) as partial:
        pq.write_table(table.replace_schema_metadata({"dsrl": json.dumps(about)}), partial, compression="zstd")


def read_head(path: Path) -> RecordHead:
    """Read what holds for every response of a file. Raises DSRLError for a file that is none of ours."""
    import pyarrow.parquet as pq

    try:
        about = json.loads(pq.read_schema(path).metadata[b"dsrl"])
    except Exception as error:  # a damaged file leads the reader into anything
        raise DSRLError(f"{path}: not a readable record of rollouts ({type(error).__name__})") from error
    if about.pop("format") != FORMAT:
        raise DSRLError(f"{path}: recorded by dsrl {about['version']}, in a format that this version cannot read")
    del about["version"]
    params = about.pop("params")
    return RecordHead(params=SamplingParams(**{**params, "stop_token_ids": tuple(params["stop_token_ids"])}), **about)


def read_rollouts(paths: Sequence[Path], prompt_numbers: Sequence[int]) -> Rollouts:
    """Read the recorded groups of some prompts of an iteration, with their rewards.

    Args:
        paths: the iteration's files, of all ranks.
        prompt_numbers: places in the batch of all ranks, in the order that is wanted.

    Raises:
        DSRLError: a file cannot be read, or a group is not there or not whole.
    """
    groups: dict[int, list[dict[str, Any]]] = {number: [] for number in prompt_numbers}
    for path in paths if groups else ():
        for row in _rows_of(path, prompt_numbers):
            groups[row["prompt_number"]].append(row)
    sizes = {len(group) for group in groups.values()}
    if 0 in sizes or len(sizes) > 1:
        short = [number for number, group in groups.items() if len(group) < max(sizes)] or list(groups)
        raise DSRLError(f"{paths[0].parent}: {paths[0].name}: responses to prompts {short} are missing")
    rows = [row for group in groups.values() for row in sorted(group, key=lambda row: row["response_number"])]
    shape = len(groups), len(rows) // max(1, len(groups))
    names = dict.fromkeys(name for row in rows for name, _ in row["components"])
    parts = [dict(row["components"]) for row in rows]
    rewards = Rewards(
        values=torch.tensor([row["reward"] for row in rows], dtype=torch.float32).view(shape),
        components={name: torch.tensor([part.get(name, math.nan) for part in parts]).view(shape) for name in names},
        extracted_answers=[row["extracted_answer"] for row in rows],
    )
    tokens = _padded([row["tokens"] for row in rows], torch.long)
    lengths = torch.tensor([len(row["tokens"]) for row in rows], dtype=torch.long)
    return Rollouts(
        prompts=[_prompt(group[0]) for group in groups.values()],
        tokens=tokens,
        mask=torch.arange(tokens.shape[1]) < lengths[:, None],
        logprobs=_padded([row["logprobs"] for row in rows], torch.float32),
        texts=[row["response"] for row in rows],
        finish_reasons=[row["finish_reason"] for row in rows],
        rewards=rewards,
    )


def _rows_of(path: Path, prompt_numbers: Sequence[int]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        found: list[dict[str, Any]] = pq.read_table(
            path, filters=[("prompt_number", "in", set(prompt_numbers))], partitioning=None
        ).to_pylist()
    except Exception as error:
        raise DSRLError(f"{path}: not a readable record of rollouts ({type(error).__name__})") from error
    return found


def _prompt(row: Mapping[str, Any]) -> Prompt:
    messages, structured = row["messages"], row["structured_ground_truth"]
    return Prompt(
        position=row["position"],
        row=row["question"],
        text=row["prompt"],
        token_ids=tuple(row["prompt_tokens"]),
        truncated=row["prompt_truncated"],
        messages=None if messages is None else tuple(json.loads(messages)),
        ground_truth=row["ground_truth"],
        structured_ground_truth=None if structured is None else json.loads(structured),
        data_source=row["data_source"],
        extra=json.loads(row["extra"]),
    )


def _padded(rows: list[list[Any]], dtype: torch.dtype) -> Tensor:
    tensors = [torch.tensor(row, dtype=dtype) for row in rows]
    return pad_sequence(tensors, batch_first=True) if tensors else torch.zeros(0, 0, dtype=dtype)


def _json(value: Any) -> str | None:
    """A value of a row as JSON; what JSON does not have, such as a date, as its text."""
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)
