"""Samples on disk: a kill at any byte costs the batch that was being written, and nothing else."""

import json

import pytest

from dsrl.errors import ConfigError
from dsrl.evaluation.samples import SampleFile, read_samples

SIZES = [2, 3, 1]
BATCHES = [
    [{"batch": batch, "sample": i, "text": "ä\u2028\n"} for i in range(size)] for batch, size in enumerate(SIZES)
]


def write(path, batches=BATCHES):
    with SampleFile(path, SIZES) as file:
        for batch in batches[file.batches :]:
            file.append(batch)
    return path.read_bytes()


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "samples.jsonl")
    assert read_samples(tmp_path) == [sample for batch in BATCHES for sample in batch]


def test_a_kill_at_any_byte_leaves_the_whole_batches_and_going_on_gives_the_same_file(tmp_path):
    whole = write(tmp_path / "whole.jsonl")
    ends = [
        len("".join(json.dumps(s, ensure_ascii=False) + "\n" for b in BATCHES[:n] for s in b).encode())
        for n in range(4)
    ]
    path = tmp_path / "samples.jsonl"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        expected = sum(size >= end for end in ends[1:])
        with SampleFile(path, SIZES) as file:
            assert file.batches == expected
        assert path.read_bytes() == whole[: ends[expected]]
        assert write(path) == whole


def test_two_processes_do_not_write_one_file(tmp_path):
    with SampleFile(tmp_path / "a.jsonl", SIZES), pytest.raises(ConfigError, match="another process is writing it"):
        SampleFile(tmp_path / "a.jsonl", SIZES)
    with SampleFile(tmp_path / "a.jsonl", SIZES) as file:
        assert file.batches == 0


def test_nothing_there_or_damaged(tmp_path):
    with pytest.raises(ConfigError, match=r"no evaluation there \(no samples\.jsonl\)"):
        read_samples(tmp_path)
    (tmp_path / "samples.jsonl").write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(ConfigError, match=r"samples\.jsonl, line 2: not JSON"):
        read_samples(tmp_path)
