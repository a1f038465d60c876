"""Tokens and FLOPs by hand, and against torch's counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dsrl.config.compose import compose
from dsrl.config.schema import ModelConfig
from dsrl.planning.architecture import Shapes, architecture_of, shaped_model
from dsrl.planning.plan import plan_of
from dsrl.planning.work import checkpoint_bytes, forward_flops, phase_work, sync_bytes
from dsrl.planning.workload import Workload

SIZES = ("prompts_per_iteration=4", "responses_per_prompt=2", "plan.prompt_tokens=10", "sampling.max_new_tokens=20")


def work_of(*words):
    config = compose([*SIZES, *words])
    architecture = architecture_of(config.model)
    shapes = Shapes.of(architecture, config.model)
    workload = Workload.of(config, positions=512, micro_batch_tokens=config.update.micro_batch_tokens)
    return phase_work(config, shapes, workload), shapes, config


@pytest.mark.parametrize("name", ["tiny", "HuggingFaceTB/SmolLM2-135M"])
def test_a_forward_is_what_torch_counts(name):
    model = ModelConfig(name=name)
    architecture = architecture_of(model)
    with FlopCounterMode(display=False) as counter:
        shaped_model(architecture, model)(input_ids=torch.zeros(1, 40, dtype=torch.long, device="meta"))
    expected = forward_flops(Shapes.of(architecture, model), 40, 40, causal=1.0)
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-9)


def test_tokens_of_two_spaces():
    phases, _, _ = work_of("objective=nsr_prerl", "+phase2=grpo", "phase2.sampling.max_new_tokens=5")
    assert [(phase.number, phase.objective) for phase in phases] == [(1, "nsr_prerl"), (2, "grpo")]
    assert phases[0].tokens == {"sampling": 4 * 10 + 8 * 20, "scoring": 0, "update": 8 * (1 + 20)}
    assert phases[1].tokens == {"sampling": 4 * 10 + 8 * 5, "scoring": 0, "update": 8 * (10 + 5)}


def test_tokens_of_several_steps_a_reference_and_a_mixture():
    (phase,), _, _ = work_of("objective=grpo", "update.minibatches=2", "update.epochs=3")
    assert (phase.tokens["scoring"], phase.tokens["update"]) == (8 * 30, 3 * 8 * 30)
    (phase,), _, _ = work_of("objective=grpo", "objective.kl.coefficient=0.1")
    assert (phase.tokens["scoring"], phase.tokens["update"]) == (8 * 30, 8 * 30)  # the reference's; one space
    (phase,), _, _ = work_of("objective=mixed")
    assert phase.tokens["update"] == 8 * 30 + 8 * 21


def test_a_mean_response_is_shorter_than_the_longest():
    (phase,), _, _ = work_of("plan.response_tokens=7")
    assert phase.tokens["sampling"] == 4 * 10 + 8 * 7


def test_flops_of_an_update():
    (plain,), shapes, _ = work_of()
    (again,), _, _ = work_of("model.gradient_checkpointing=true")
    forward = 8 * forward_flops(shapes, 30, 20)
    assert plain.flops["update"] == pytest.approx(3 * forward)  # the head's logits are one chunk
    assert again.flops["update"] == pytest.approx(4 * forward - 8 * 2 * 100 * 128 * 20)


def test_bytes():
    _, shapes, config = work_of()
    assert sync_bytes(config, shapes) == 0  # the policy itself samples
    assert checkpoint_bytes(config, shapes) == 3 * 4 * shapes.parameters
    _, shapes, config = work_of("trainer=fsdp", "trainer.devices=2", "objective.kl.coefficient=0.1")
    assert sync_bytes(config, shapes) == 4 * shapes.parameters
    assert checkpoint_bytes(config, shapes) == 4 * 4 * shapes.parameters
    _, shapes, config = work_of("trainer=fsdp", "trainer.devices=2", "trainer.precision=bf16-mixed")
    assert sync_bytes(config, shapes) == 2 * shapes.parameters  # the copy is in the dtype of the compute
    _, shapes, config = work_of("trainer=fsdp", "trainer.devices=2", "sampler=vllm")
    assert sync_bytes(config, shapes) == 2 * shapes.parameters  # cast before ranks exchange them
    _, shapes, config = work_of("trainer=fsdp1", "trainer.devices=2", "sampler=vllm")
    assert sync_bytes(config, shapes) == 4 * shapes.parameters


def test_padding_and_the_slowest_rank_are_those_of_drawn_lengths():
    words = ("objective=nsr_prerl", "prompts_per_iteration=64", "sampling.max_new_tokens=128", "plan.device_gib=4")
    ((even,), (drawn,)) = (
        plan_of(compose([*words, *more])).as_json()["phases"] for more in ((), ("plan.response_tokens=40",))
    )
    assert even["padding"] == even["slowest"] == 1.0
    assert 1.0 < drawn["padding"] == drawn["slowest"] < 1.2  # one rank: it waits for nobody
