"""Under each strategy a run with probes is one without, and two ranks measure what one process does."""

from __future__ import annotations

import pytest
import torch
from run_files import lines_apart, metrics, weights
from test_equal import STRATEGIES, TWO_PHASES

from dsrl.storage.safetensors_files import read_tensors, tensors_in

PROBE = ("+probe=alignment", "probe.every=2", "probe.samples=8")


@pytest.fixture(scope="module")
def alone(train_once):
    return train_once("alone probed", *TWO_PHASES, *PROBE, "probe.levels=[0,1,2,3]")


def parts(run):
    """The lines of metrics.jsonl without probes, and the probes alone."""
    lines = metrics(run)
    probed = [{name: value for name, value in line.items() if name.startswith("probe/")} for line in lines]
    return [
        {name: value for name, value in line.items() if name not in found}
        for line, found in zip(lines, probed, strict=True)
    ], probed


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", pytest.param("fsdp1", marks=pytest.mark.thorough)])
def test_probes_change_nothing_and_see_all_ranks(strategy, alone, train_once):
    levels = "probe.levels=[0,1,2,3]" if strategy == "ddp" else "probe.levels=[0,1,3]"
    plain = train_once(strategy, *TWO_PHASES, *STRATEGIES[strategy])
    probed = train_once(f"{strategy} probed", *TWO_PHASES, *STRATEGIES[strategy], *PROBE, levels)
    rest, found = parts(probed)
    assert rest == metrics(plain)
    assert all(torch.equal(tensor, weights(plain)[name]) for name, tensor in weights(probed).items())
    one, other = (saved(run / "checkpoints" / "iteration3.ckpt") for run in (plain, probed))
    assert one.keys() == other.keys() and len(one) > 80
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert [bool(line) for line in found] == [True, False, True, False]
    _, expected = parts(alone)
    for line, its in zip(found, expected, strict=True):
        assert len(line) > 60 or not line
        assert lines_apart([line], [{name: its[name] for name in line}]) < 2e-3


def saved(path):
    """Weights and moments of a checkpoint, by name."""
    if path.is_dir():
        found = {name: torch.empty(size, dtype=dtype) for name, (size, dtype) in tensors_in(path).items()}
        read_tensors(path, found)
        return found
    content = torch.load(path, weights_only=True)
    (state,) = content["optimizer_states"]
    moments = {f"{name}.{key}": own for name, its in state["state"].items() for key, own in its.items()}
    return {**content["state_dict"], **moments}
