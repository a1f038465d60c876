"""Several nodes: two network namespaces with addresses of their own, and SLURM by its variables."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest
from run_files import apart
from test_equal import TWO_PHASES
from warm import NAMESPACE

PORT = 29611  # in namespaces of their own
ADDRESS = ("10.231.0.1", "10.231.0.2")


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def nodes():
    """Names of two network namespaces, joined by a pair of virtual devices."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    names = [f"dsrl-node{number}-{os.getpid()}" for number in (0, 1)]
    if ip("netns", "add", names[0]).returncode:
        pytest.skip("this kernel gives no network namespaces")
    ip("netns", "add", names[1])
    ip("link", "add", "dsrl0", "netns", names[0], "type", "veth", "peer", "name", "dsrl1", "netns", names[1])
    for number, name in enumerate(names):
        ip("-n", name, "addr", "add", f"{ADDRESS[number]}/24", "dev", f"dsrl{number}")
        ip("-n", name, "link", "set", f"dsrl{number}", "up")
        ip("-n", name, "link", "set", "lo", "up")
    yield names
    for name in names:
        ip("netns", "del", name)


def on_both(start, nodes, folder, *overrides, before=None, environment=lambda node: {}):
    """Start the same command on both nodes, as a user does, and wait for both. Without anything `before` it, processes
    are forked."""
    settings = (*TWO_PHASES, *overrides, "trainer.num_nodes=2", f"run_dir={folder}")
    runs = []
    for node, name in enumerate(nodes):
        there: dict = {"environment": {**environment(node), NAMESPACE: name}}
        if before is not None:
            there = {"environment": environment(node), "before": ("ip", "netns", "exec", name, *before(node))}
        runs.append(start(*settings, **there))
    for run in runs:
        _, errors = run.communicate(timeout=900)
        assert run.returncode == 0, errors[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp1", marks=pytest.mark.thorough), "hsdp"])
def test_by_plain_variables(strategy, start, nodes, train_once, tmp_path):
    """hsdp: each node has two ranks, which share a copy of the model."""
    hsdp = ("trainer=fsdp", "trainer.devices=2", "trainer.shard_within=node")

    def variables(node):
        return {"MASTER_ADDR": ADDRESS[0], "MASTER_PORT": str(PORT), "NODE_RANK": str(node)}

    given = hsdp if strategy == "hsdp" else (f"trainer={strategy}",)
    on_both(start, nodes, tmp_path / "run", *given, environment=variables)
    assert apart(train_once("alone", *TWO_PHASES), tmp_path / "run") < 1e-4


@pytest.mark.slow
def test_by_torchrun(start, nodes, train_once, tmp_path):
    def torchrun(node):
        rendezvous = ("--master-addr", ADDRESS[0], "--master-port", str(PORT + 1))
        module = (sys.executable, "-m", "torch.distributed.run")
        return (*module, "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node), *rendezvous)

    on_both(start, nodes, tmp_path / "run", "trainer=fsdp", before=torchrun)
    assert apart(train_once("alone", *TWO_PHASES), tmp_path / "run") < 1e-4


@pytest.mark.slow
def test_by_slurms_variables(start, train_once, tmp_path):
    """What `srun --nodes=2 --ntasks-per-node=1` gives each task; both run here."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])

    def variables(task):
        return {
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_NNODES": "2",
            "SLURM_PROCID": str(task),
            "SLURM_NODEID": str(task),
            "SLURM_LOCALID": "0",
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NAME": "dsrl",
            "SLURM_NODELIST": "127.0.0.1",
            "MASTER_PORT": port,
        }

    settings = (*TWO_PHASES, "trainer=fsdp", "trainer.num_nodes=2")
    folders = [tmp_path / "run0", tmp_path / "run1"]  # composed apart, as with ${now}: rank 0's counts
    runs = [start(*settings, f"run_dir={folders[task]}", environment=variables(task)) for task in (0, 1)]
    for run in runs:
        _, errors = run.communicate(timeout=900)
        assert run.returncode == 0, errors[-3000:]
    assert apart(train_once("alone", *TWO_PHASES), folders[0]) < 1e-4
    assert not folders[1].exists()
