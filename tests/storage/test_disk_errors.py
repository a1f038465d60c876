"""Whatever cannot be written is named in one sentence, with the system's reason, and what was there before stays."""

import errno
import os
import resource
import signal
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from dsrl.errors import ConfigError
from dsrl.evaluation.samples import SampleFile, read_samples
from dsrl.runs.run_folder import RunFolder
from dsrl.storage.atomic import atomic
from dsrl.storage.checkpoint_files import read_checkpoint, write_file, write_folder
from dsrl.storage.disk_errors import UnwritableError, refuse_unwritable, system_error_in, writing
from dsrl.storage.folder_lock import FolderLock

WHY = "cannot be written: File too large"


@contextmanager
def no_file_over(size):
    """Let no file grow beyond `size` bytes, as a full disk or a quota does."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


CHECKPOINT = {"weights": torch.zeros(100_000), "dsrl": {"config": {}, "iterations_done": 1}}


def test_a_checkpoint_as_one_file(tmp_path):
    """PyTorch's writer raises a RuntimeError about positions in the archive instead."""
    write_file(CHECKPOINT, tmp_path / "a.ckpt")
    with no_file_over(100_000), pytest.raises(UnwritableError) as refused:
        write_file({**CHECKPOINT, "weights": torch.ones(100_000)}, tmp_path / "a.ckpt")
    assert str(refused.value) == f"{tmp_path}/a.ckpt: {WHY}"
    assert os.listdir(tmp_path) == ["a.ckpt"] and read_checkpoint(tmp_path / "a.ckpt")["weights"].sum() == 0


@pytest.mark.parametrize(("size", "named"), [(1000, ""), (100_000, "rank 0: ")])
def test_a_checkpoint_in_parts(size, named, tmp_path):
    rest = {"dsrl": {"config": {"name": "x" * 2000}, "iterations_done": 1}}
    tensors = {"model": {"weights": torch.zeros(100_000)}, "optimizer": {}}
    with no_file_over(size), pytest.raises(ConfigError.__mro__[1]) as refused:
        write_folder(rest, tensors, tmp_path / "a.ckpt", group=None).result()
    assert str(refused.value) == f"{tmp_path}/a.ckpt: cannot be written: {named}File too large"
    assert not (tmp_path / "a.ckpt").exists()


def test_weights_of_safetensors(tmp_path):
    """Its error only quotes the system's."""
    with (
        no_file_over(1000),
        pytest.raises(UnwritableError, match=f"^{tmp_path}/hf: {WHY}$"),
        atomic(tmp_path / "hf") as p,
    ):
        p.mkdir()
        save_file({"a": torch.zeros(10_000)}, p / "model.safetensors")
    assert os.listdir(tmp_path) == []


def test_rollouts_of_pyarrow(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"a": list(range(100_000))})
    with (
        no_file_over(1000),
        pytest.raises(UnwritableError, match=f"^{tmp_path}/a.parquet: {WHY}$"),
        atomic(tmp_path / "a.parquet") as partial,
    ):
        pq.write_table(table, partial)
    assert os.listdir(tmp_path) == []


def test_text(tmp_path):
    (tmp_path / "results.json").write_text("old")
    with (
        no_file_over(1000),
        pytest.raises(UnwritableError, match=f"^{tmp_path}/results.json: {WHY}$"),
        atomic(tmp_path / "results.json") as partial,
    ):
        partial.write_text("x" * 2000)
    assert (tmp_path / "results.json").read_text() == "old"


class Trainer:
    is_global_zero = True


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl", "validations.jsonl"])
def test_lines(name, tmp_path):
    folder = RunFolder(tmp_path, config={}, samples=0, lock=FolderLock(tmp_path))
    folder._append(Trainer(), name, {"iteration": 0})
    with no_file_over(1000), pytest.raises(UnwritableError, match=f"^{tmp_path}/{name}: {WHY}$"):
        folder._append(Trainer(), name, {"iteration": 1, "text": "x" * 2000})
    folder._cut(Trainer(), lambda line: line["iteration"] < 2)  # what a resume does: the half line goes
    assert (tmp_path / name).read_text() == '{"iteration": 0}\n'


def test_samples_of_an_evaluation_lose_the_batch_that_did_not_fit(tmp_path):
    asked = [[("s", batch, 0, "p", "1")] for batch in range(2)]
    known = {"extracted_answer": "1", "reward": 1.0, "components": {}, "length": 3, "finish_reason": "stop"}
    names = ("set", "question", "sample", "prompt", "ground_truth")
    batches = [dict(zip(names, own[0], strict=True)) | known | {"data_source": "d"} for own in asked]
    path = tmp_path / "samples.jsonl"
    with no_file_over(250), pytest.raises(UnwritableError, match=f"^{path}: {WHY}$"), SampleFile(path) as file:
        file.append([batches[0]])
        file.append([batches[1]])
    assert read_samples(tmp_path) == batches[:1]
    with SampleFile(path) as file:
        assert file.keep(asked) == 1
        file.append([batches[1]])
    assert read_samples(tmp_path) == batches


REASONS = [
    (errno.ENOSPC, "No space left on device"),
    (errno.EDQUOT, "Disk quota exceeded"),
    (errno.EROFS, "Read-only file system"),
    (errno.EACCES, "Permission denied"),
    (errno.EPERM, "Operation not permitted"),
    (errno.ENOENT, "No such file or directory"),
    (errno.ENAMETOOLONG, "File name too long"),
    (errno.EIO, "Input/output error"),
    (errno.ESTALE, "Stale file handle"),
    (errno.EMFILE, "Too many open files"),
    (errno.ENOTDIR, "Not a directory"),
    (errno.EFBIG, "File too large"),
]


@pytest.mark.parametrize(("number", "reason"), REASONS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_reason_is_the_systems(number, reason, wrapped, tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(UnwritableError, match=f"^{path}: cannot be written: {reason}$"), atomic(path):
        try:
            raise OSError(number, reason, str(path))
        except OSError as error:
            if wrapped:
                raise RuntimeError("unexpected pos 2407424 vs 2407316") from error
            raise


@pytest.mark.parametrize("error", [ValueError("x"), ConnectionResetError(104, "reset"), TimeoutError(110, "late")])
def test_what_is_not_the_disks_is_raised_as_it_is(error, tmp_path):
    with pytest.raises(type(error)) as raised, writing(tmp_path):
        raise error
    assert raised.value is error and system_error_in(error) is None


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("x" * 300, "File name too long"),
        ("file/run", "Not a directory"),
        ("a/" + "x" * 300 + "/run", "File name too long"),
        ("/proc/run", "No such file or directory"),
        ("/sys/run", "(Read-only file system|Operation not permitted|Permission denied)"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(folder, reason, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableError, match=f"run.*|x+: cannot be written: {reason}$"):
        refuse_unwritable(tmp_path / folder)
    assert os.listdir(tmp_path) == ["file"]


def test_one_that_can_is_left_as_it_was(tmp_path):
    refuse_unwritable(tmp_path / "a" / "b")
    refuse_unwritable(tmp_path)
    assert os.listdir(tmp_path) == []
