"""Samples on disk: a kill at any byte costs the batch that was being written, and nothing else."""

import json

import pytest

from dsrl.errors import ConfigError
from dsrl.evaluation.samples import SampleFile, read_samples

SIZES = [2, 3, 1]


def sample(batch, number, **fields):
    asked = {"set": "s", "question": batch, "sample": number, "prompt": f"{batch}: ä\u2028\n", "ground_truth": "1"}
    given = {"extracted_answer": "1", "reward": 1.0, "components": {}, "length": 3}
    given |= {"finish_reason": "stop", "data_source": "d"}
    return {**asked, **given, **fields}


BATCHES = [[sample(batch, number) for number in range(size)] for batch, size in enumerate(SIZES)]
ASKED = [[tuple(line.values())[:5] for line in batch] for batch in BATCHES]


def write(path, batches=BATCHES):
    with SampleFile(path) as file:
        for batch in batches[file.keep(ASKED) :]:
            file.append(batch)
    return path.read_bytes()


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


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
    for size in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:size])
        expected = sum(size >= end for end in ends[1:])
        with SampleFile(path) as file:
            assert file.keep(ASKED) == expected
        assert path.read_bytes() == whole[: ends[expected]]
        assert write(path) == whole


def test_two_processes_do_not_write_one_file(tmp_path):
    with SampleFile(tmp_path / "a.jsonl"), pytest.raises(ConfigError, match="another process is writing it"):
        SampleFile(tmp_path / "a.jsonl")
    with SampleFile(tmp_path / "a.jsonl") as file:
        assert file.empty and file.keep(ASKED) == 0


@pytest.mark.parametrize("change", [{"prompt": "x"}, {"ground_truth": "2"}, {"set": "t"}, {"question": 7}])
def test_samples_of_other_data_are_refused_and_kept(change, tmp_path):
    path = tmp_path / "samples.jsonl"
    lines(path, *BATCHES[0], sample(1, 0, **change))
    before = path.read_bytes()
    with (
        SampleFile(path) as file,
        pytest.raises(ConfigError, match="line 3: another question than is asked now: the d"),
    ):
        file.keep(ASKED)
    assert path.read_bytes() == before


def test_more_samples_than_are_asked_for_are_refused_and_kept(tmp_path):
    path = tmp_path / "samples.jsonl"
    before = write(path)
    with SampleFile(path) as file, pytest.raises(ConfigError, match="line 6: another question than is asked now"):
        file.keep(ASKED[:2])
    assert path.read_bytes() == before


def test_what_is_not_json_is_not_written(tmp_path):
    with SampleFile(tmp_path / "samples.jsonl") as file, pytest.raises(ValueError, match="not JSON compliant"):
        file.append([sample(0, 0, reward=float("nan"))])


def test_nothing_there(tmp_path):
    with pytest.raises(ConfigError, match=r"no evaluation there \(no samples\.jsonl\)"):
        read_samples(tmp_path)
    (tmp_path / "samples.jsonl").touch()
    with pytest.raises(ConfigError, match=r"samples\.jsonl: holds no samples yet"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nonsense", "damaged, evaluate anew: Expecting value"),
        (b'{"a": "\xff"}', "damaged, evaluate anew: 'utf-8' codec"),
        (b'{"a": 1}', "not a sample of an evaluation, without a fitting 'set'"),
        (b"[1]", "not a sample of an evaluation"),
        (json.dumps(sample(0, 1, reward="1")).encode(), "without a fitting 'reward'"),
        (json.dumps(sample(0, 0)).encode(), "the same sample as line 1; remove one of the two"),
    ],
)
def test_damaged_or_foreign(line, message, tmp_path):
    path = lines(tmp_path / "samples.jsonl", sample(0, 0))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ConfigError, match=rf"samples\.jsonl, line 2: .*{message}"):
        read_samples(tmp_path)
