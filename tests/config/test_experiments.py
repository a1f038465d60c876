"""The recipes that come with dsrl."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsrl.devices import shards_checkpoints
from dsrl.plan import compose_to_plan
from dsrl.planning.plan import plan_of
from dsrl.runs.resume import differences

FOLDER = Path(__file__).parents[2] / "configs" / "experiment"


@pytest.mark.parametrize("name", [path.stem for path in FOLDER.glob("*.yaml")])
def test_each_is_complete(name):
    """It says everything that a run on GPUs needs, and names itself in its command."""
    config = compose_to_plan([f"experiment={name}"])
    assert [str(phase.objective.terms[0][1].space) for phase in config.phases] == ["marginal", "conditional"]
    longest = config.phases[0].sampling.max_new_tokens + config.data.max_prompt_tokens
    assert config.sampler.max_model_len == longest
    assert config.trainer.accelerator == "gpu"
    assert shards_checkpoints(config.trainer, config.checkpoint) == (config.trainer.strategy == "fsdp")
    assert f"experiment={name} " in (FOLDER / f"{name}.yaml").read_text() or name == "two_nodes"


def test_two_nodes_are_the_papers_recipe_twice():
    one, two = (compose_to_plan([f"experiment={name}"]).resolved for name in ("paper_qwen3_4b", "two_nodes"))
    apart = {key for key, _, _ in differences(one, two) if not key.startswith(("run_dir", "logger"))}
    assert apart == {"trainer.num_nodes", "trainer.shard_within"}


def test_the_small_recipe_fits_the_gpu_that_it_names():
    plan = plan_of(compose_to_plan(["experiment=one_gpu", "plan.device_gib=24"]))
    assert plan.fits
    assert plan.device.kind == "gpu"
