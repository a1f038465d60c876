"""Damage within a checkpoint is found by the sums that its file holds, and the newest good one is offered."""

import re
import shutil
import subprocess

import pytest
import torch

from dsrl.errors import ConfigError
from dsrl.runs.resume import newest_checkpoint, read_to_resume
from dsrl.storage.checkpoint_files import UnreadableCheckpoint, read_checkpoint, write_file


@pytest.fixture
def checkpoints(tmp_path):
    """Two checkpoints, the newer one first."""
    content = {"state_dict": {"weight": torch.arange(10_000.0)}, "dsrl": {"config": {}, "iterations_done": 1}}
    paths = [tmp_path / f"iteration{number}.ckpt" for number in (3, 2)]
    for path in paths:
        write_file(content, path)
    return paths


def overwrite(path, at, count=1000):
    data = bytearray(path.read_bytes())
    data[at : at + count] = bytes(value ^ 255 for value in data[at : at + count])
    path.write_bytes(data)


def test_bytes_of_weights_that_were_overwritten_are_found_wherever_they_are(checkpoints):
    newest, _ = checkpoints
    good, size = newest.read_bytes(), newest.stat().st_size
    start = good.index(torch.arange(10_000.0).numpy().tobytes()[:64])
    read_checkpoint(newest, verify=True)
    for at in (start, start + 20_000, start + 39_000):
        newest.write_bytes(good)
        overwrite(newest, at)
        assert not torch.equal(read_checkpoint(newest)["state_dict"]["weight"], torch.arange(10_000.0))
        with pytest.raises(UnreadableCheckpoint, match="damaged since it was written"):
            read_checkpoint(newest, verify=True)
    for at in range(0, size - 1000, size // 20):  # anywhere: damaged, unreadable, or padding that nobody reads
        newest.write_bytes(good)
        overwrite(newest, at)
        try:
            found = read_checkpoint(newest, verify=True)
        except UnreadableCheckpoint:
            continue
        assert torch.equal(found["state_dict"]["weight"], torch.arange(10_000.0))


def test_the_offer_is_one_that_works(checkpoints):
    newest, older = checkpoints
    overwrite(newest, newest.stat().st_size // 2)
    with pytest.raises(ConfigError, match=re.escape(f"resume={older}")) as error:
        read_to_resume(newest)
    assert "damaged since it was written" in str(error.value)
    read_to_resume(older)
    overwrite(older, older.stat().st_size // 2)
    with pytest.raises(ConfigError, match="nor is any beside it"):
        read_to_resume(newest)


def test_in_its_own_folder_what_is_damaged_is_moved_aside_by_the_offered_command(checkpoints, tmp_path):
    folder = tmp_path / "my run" / "checkpoints"
    folder.mkdir(parents=True)
    for path in checkpoints:
        shutil.move(path, folder)
    newest, older = (folder / path.name for path in checkpoints)
    shutil.copy(older, folder / "iteration1.ckpt")
    for path in (newest, older):
        overwrite(path, path.stat().st_size // 2)
    with pytest.raises(ConfigError, match=r"iteration1\.ckpt; to go on from that: mv ") as error:
        read_to_resume(newest, folder.parent)
    moves, _, goes_on = str(error.value).partition("to go on from that: ")[2].rpartition(" && ")
    subprocess.run(moves, shell=True, check=True)  # noqa: S602
    assert newest_checkpoint(folder) == folder / "iteration1.ckpt"
    assert "resume=last" in goes_on
