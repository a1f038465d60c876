"""Of the processes of a run one is the first, however they are started."""

import pytest

from dsrl.parallel.first_process import is_first_process


@pytest.mark.parametrize(
    ("ranks", "environment", "first"),
    [
        (1, {}, True),
        (1, {"RANK": "3", "SLURM_PROCID": "3"}, True),  # several runs of one rank under one launcher
        (2, {}, True),  # Lightning starts the others
        (2, {"LOCAL_RANK": "0"}, True),
        (2, {"LOCAL_RANK": "1"}, False),
        (4, {"NODE_RANK": "0"}, True),  # plain variables on each node
        (4, {"NODE_RANK": "1"}, False),
        (4, {"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        (4, {"RANK": "0", "LOCAL_RANK": "0"}, True),  # torchrun
        (4, {"RANK": "2", "LOCAL_RANK": "0"}, False),
        (4, {"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, True),  # torchrun under srun orders nodes itself
        (4, {"RANK": "2", "LOCAL_RANK": "0", "SLURM_PROCID": "0"}, False),
        (4, {"SLURM_PROCID": "0"}, True),  # srun
        (4, {"SLURM_PROCID": "3"}, False),
        (4, {"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # Lightning's processes within sbatch
        (4, {"OMPI_COMM_WORLD_RANK": "1"}, False),
        (4, {"JSM_NAMESPACE_RANK": "0"}, True),
        (2, {"LOCAL_RANK": "", "NODE_RANK": ""}, True),
    ],
)
def test_one_is_the_first(ranks, environment, first):
    assert is_first_process(ranks, environment) == first
