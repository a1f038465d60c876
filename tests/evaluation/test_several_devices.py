"""Evaluations on several devices: here, processes that share the cores of a CPU."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dsrl.data.encoding import PromptEncoder
from dsrl.data.source import Row
from dsrl.errors import ConfigError, DSRLError
from dsrl.evaluation import EvaluationConfig, workers
from dsrl.evaluation.answering import Answerer
from dsrl.evaluation.batches import batches_of
from dsrl.evaluation.samples import SampleFile
from dsrl.samplers.hf import HFSampler

ROOT = Path(__file__).parents[2]
LIMIT = 24
SMALL = ("k=3", f"limit={LIMIT}", "questions_per_batch=2", "sampling.max_new_tokens=48")


def workers_of(pid):
    """Find the worker processes of an evaluation among the children of its process."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if b"dsrl.evaluation.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


def assert_gone(processes):
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in processes):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_an_interrupt_and_the_death_of_a_worker_change_nothing_in_the_file(evaluated, monkeypatch):
    one, expected, _ = evaluated(*SMALL, "accelerator=cpu", folder="one")
    append, found, raised_at = SampleFile.append, [], []

    def interrupt(file, samples):
        append(file, samples)
        found.extend(workers_of(os.getpid()))
        raise KeyboardInterrupt

    def kill_the_second(file, samples):
        append(file, samples)
        if not raised_at:
            found.extend(workers_of(os.getpid()))
            raised_at.append(time.monotonic())
            os.kill(found[-1], signal.SIGKILL)

    monkeypatch.setattr(SampleFile, "append", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluated(*SMALL, "accelerator=cpu", "devices=2", folder="two")
    assert len(found) == 2 and workers_of(os.getpid()) == []
    samples = one.parent / "two" / "samples.jsonl"
    assert samples.read_bytes().count(b"\n") == 2 * 3

    monkeypatch.setattr(SampleFile, "append", kill_the_second)
    resume = f"resume={one.parent / 'two'}"
    with pytest.raises(DSRLError, match="^worker 1 of devices=2 was ended by SIGKILL .by the system, where memory ran"):
        evaluated(resume)
    assert len(found) == 4 and workers_of(os.getpid()) == [] and time.monotonic() - raised_at[0] < 20
    assert 4 * 3 <= samples.read_bytes().count(b"\n") < LIMIT * 3

    monkeypatch.setattr(SampleFile, "append", append)
    _, results, printed = evaluated(resume, "devices=1")
    assert samples.read_bytes() == (one / "samples.jsonl").read_bytes()
    assert results["results"] == expected["results"] and results["config"]["devices"] == 1
    assert "questions are answered already" in printed and "arithmetic: avg@3" in printed


@pytest.mark.slow
def test_workers_end_with_an_evaluation_that_is_killed(tmp_path):
    line = ("k=8", "data.val=arithmetic", "questions_per_batch=1", "accelerator=cpu", "devices=2")
    process = subprocess.Popen(
        [sys.executable, "-m", "dsrl.evaluate", *line, f"run_dir={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 900
        while not ((path := tmp_path / "samples.jsonl").exists() and path.stat().st_size):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        found = workers_of(process.pid)
    finally:
        process.kill()
        process.wait()
    assert len(found) == 2
    assert_gone(found)


@pytest.mark.slow
def test_what_a_worker_finds_wrong_is_said(evaluated, tmp_path):
    (tmp_path / "rewards.py").write_text(
        "def right(response, prompt):\n    return float(prompt.ground_truth == '300' or [][0])\n"
    )
    records = [{"prompt": f"10{i}+{200 - i * (i < 6)}=", "answer": f"{300 + max(0, i - 5)}"} for i in range(8)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    line = (*SMALL, f"data.val={path}", "verifier=function", f"verifier.path={tmp_path / 'rewards.py'}:right")
    with pytest.raises(DSRLError, match=r"rewards.py:right failed on (each )?(\d+ )?of .*\d+ responses: IndexError"):
        evaluated(*line, "verifier.max_failed=0", "accelerator=cpu", "devices=2")
    samples = tmp_path / "evaluation" / "samples.jsonl"
    assert samples.read_bytes().count(b"\n") <= 6 * 3 and workers_of(os.getpid()) == []


@pytest.fixture
def answerer():
    config = EvaluationConfig.of(["accelerator=cpu", *SMALL])
    with Answerer(config, PromptEncoder.of(config.model, config.data)) as made:
        yield made


def rows(count):
    return [Row(question=f"{i}+1=", ground_truth=str(i + 1), data_source="s") for i in range(count)]


def test_a_batch_is_checked_while_the_next_one_is_sampled(answerer, monkeypatch):
    """Each waits for the other: one after the other, neither would end."""
    sampling, checked = threading.Event(), threading.Event()
    sample = HFSampler.sample

    def second_waits(sampler, prompts, params):
        if prompts[0].position > 0:
            sampling.set()
            assert checked.wait(30)
        return sample(sampler, prompts, params)

    monkeypatch.setattr(HFSampler, "sample", second_waits)
    finished = []

    def finish(batch, rollouts):
        assert sampling.wait(30)
        finished.append((batch.number, len(answerer.lines(batch, rollouts))))
        checked.set()

    answerer.sample_all(batches_of({"s": rows(4)}, answerer.config), finish)
    assert finished == [(0, 6), (1, 6)]


def test_what_checking_raises_is_raised_and_what_was_sampled_before_an_interrupt_is_checked(answerer, monkeypatch):
    batches = batches_of({"s": rows(6)}, answerer.config)

    def fail(batch, rollouts):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answerer.sample_all(batches, fail)
    sample, finished = HFSampler.sample, []

    def interrupted(sampler, prompts, params):
        if prompts[0].position == 4:
            raise KeyboardInterrupt
        return sample(sampler, prompts, params)

    monkeypatch.setattr(HFSampler, "sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        answerer.sample_all(batches, lambda batch, rollouts: finished.append(batch.number))
    assert finished == [0, 1]


@pytest.mark.parametrize(
    ("given", "slots", "devices", "sizes"),
    [
        (None, None, 2, [16, 16, 8]),  # a sampler that decodes what it is given
        (None, 1, 1, [4] * 10),  # 16 x 1 responses, 4 to each question
        (None, 256, 1, [40]),  # fewer questions than would fill it 16 times
        (None, 256, 3, [14, 14, 12]),  # each device gets a share
        (7, 256, 3, [7, 7, 7, 7, 7, 5]),
    ],
)
def test_a_batch_is_large_enough_for_an_engine_and_leaves_every_device_its_share(given, slots, devices, sizes):
    sampler = SimpleNamespace() if slots is None else SimpleNamespace(max_num_seqs=slots)
    config = SimpleNamespace(k=4, questions_per_batch=given, sampler=sampler, devices=devices)
    found = batches_of({"s": rows(40), "t": rows(1)}, config)
    assert [len(batch.rows) for batch in found] == [*sizes, 1]
    assert [batch.number for batch in found] == list(range(len(found)))
    assert [batch.first for batch in found if batch.set == "s"] == [sum(sizes[:i]) for i in range(len(sizes))]


def test_cores_are_shared_out_and_each_worker_sees_its_own_gpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 6, 7})
    config = SimpleNamespace(accelerator="cpu", devices=2, sampler=SimpleNamespace())
    assert [workers.share(config, number) for number in (0, 1)] == [([0, 1, 2], {}), ([3, 6, 7], {})]
    monkeypatch.setattr(workers, "device_type", lambda accelerator: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert workers.share(config, 1) == ([0, 1, 2, 3, 6, 7], {"CUDA_VISIBLE_DEVICES": "1"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5,6,7")
    config.sampler.tensor_parallel_size = 2
    found = [workers.share(config, number)[1]["CUDA_VISIBLE_DEVICES"] for number in (0, 1)]
    assert found == ["4,GPU-5", "6,7"]


@pytest.mark.parametrize(
    ("kind", "devices", "message"),
    [
        ("cpu", 0, "devices=0: must be at least 1"),
        ("cuda", 3, "devices=3: there are 2 GPUs; give at most 2"),
        ("mps", 2, "devices=2: an evaluation shares out GPUs of CUDA, or a CPU; leave it 1 on mps"),
    ],
)
def test_more_devices_than_there_are(kind, devices, message, monkeypatch):
    monkeypatch.setattr("dsrl.evaluation.config.device_type", lambda accelerator: kind)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig.of([f"devices={devices}"])
