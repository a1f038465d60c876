"""Threads by the size of the model; what a user sets wins; shares of cores; waiting asleep."""

import os
import subprocess
import sys

import pytest
import torch

import dsrl.threads as module
from dsrl.threads import CORES, ComputeThreads, chosen, cores, share_cores, threads_for, wait_asleep


@pytest.mark.parametrize(
    ("parameters", "there", "expected"),
    [
        (505_216, 1, 1),  # model=tiny
        (505_216, 2, 2),
        (505_216, 64, 2),
        (249_999, 8, 1),
        (1_000_000, 8, 4),
        (1_000_000, 2, 2),
        (134_515_008, 2, 2),  # SmolLM2
        (134_515_008, 64, 64),
        (4_022_468_096, 64, 64),
        (0, 4, 1),
    ],
)
def test_a_thread_needs_work(parameters, there, expected):
    assert threads_for(parameters, there) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"KMP_BLOCKTIME": "200"}, {"KMP_BLOCKTIME": "200"}),
    ],
)
def test_threads_wait_asleep_unless_a_user_has_said_how(environment, expected):
    wait_asleep(environment)
    assert environment == expected


def test_the_package_says_so_before_torch_is_loaded():
    code = "import sys, os, dsrl; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name not in module.WAITING}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "False 1000\n", done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OMP_NUM_THREADS": "4"}, True),
        ({"MKL_NUM_THREADS": "4"}, True),
        ({"OMP_NUM_THREADS": "4", CORES: "4"}, False),  # a share
        ({"OMP_NUM_THREADS": "2", CORES: "4"}, True),
        ({"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "1", CORES: "4"}, True),
    ],
)
def test_who_has_chosen(environment, expected):
    assert chosen(environment) == expected


@pytest.fixture
def eight_cores(monkeypatch, tmp_path):
    for name in (CORES, *module.OF_USER):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(module, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(module, "_siblings", lambda core: str(core // 2))  # four of two threads
    return tmp_path / "cpu.max"


@pytest.mark.parametrize(
    ("quota", "share", "expected"),
    [
        (None, None, 8),
        ("max 100000\n", None, 8),
        ("250000 100000\n", None, 2),
        ("50000 100000\n", None, 1),
        (None, "3", 3),
        (None, "20", 8),
        (None, "none", 8),
    ],
)
def test_cores_that_a_process_may_count_on(quota, share, expected, eight_cores, monkeypatch):
    if quota is not None:
        eight_cores.write_text(quota)
    if share is not None:
        monkeypatch.setenv(CORES, share)
    assert cores() == expected


def test_jobs_share_the_cores_unless_a_user_has_set_threads(eight_cores):
    environment = {}
    share_cores(3, environment)
    assert environment == {CORES: "2", "OMP_NUM_THREADS": "2"} and not chosen(environment)
    own = {"OMP_NUM_THREADS": "5"}
    share_cores(3, own)
    assert own == {"OMP_NUM_THREADS": "5"}


@pytest.mark.parametrize(
    ("now", "parameters", "processes", "expected"),
    [
        (8, 500_000, 1, 2),
        (4, 500_000, 1, 2),  # PyTorch counts cores, not their threads
        (8, 10**9, 1, 8),
        (8, 10**9, 2, 4),
        (8, 10**9, 20, 1),
        (8, 500_000, 8, 1),
        (3, 500_000, 1, 3),  # set by the user, with torch.set_num_threads
        (1, 10**9, 1, 1),
    ],
)
def test_the_threads_of_this_process(now, parameters, processes, expected, eight_cores, monkeypatch):
    found = [now]
    monkeypatch.setattr(torch, "get_num_threads", lambda: found[-1])
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    threads = ComputeThreads.of(parameters, processes)
    assert found[-1] == expected
    threads.restore()
    threads.restore()
    assert found[-1] == now


def test_what_a_user_sets_by_a_variable_stays(eight_cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: pytest.fail("set"))
    ComputeThreads.of(500_000).restore()


def test_a_rank_that_was_started_with_its_share_does_not_share_it_again(eight_cores, monkeypatch):
    share_cores(2, os.environ)
    found = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: found[-1])
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    ComputeThreads.of(10**9, processes=2)
    assert found[-1] == 4
    monkeypatch.delenv(CORES)
    monkeypatch.delenv("OMP_NUM_THREADS")
