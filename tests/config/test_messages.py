"""What a wrong command line is told: the key, its value, what is allowed, the nearest name."""

import pytest

from dsrl.config.build import build_run_config
from dsrl.config.compose import check_command_line, compose
from dsrl.errors import ConfigError
from dsrl.runs.start import check_run_dir

NAMES = [
    ("objective=grp", "objective=grp: no such objective; there are cispo, dapo,", "Did you mean 'grpo'?"),
    ("objective=", "objective=: no such objective; there are cispo, dapo,"),
    ("sampler=hff", "sampler=hff: no such sampler; there are hf", "Did you mean 'hf'?"),
    ("verifier=mth", "verifier=mth: no such verifier;", "Did you mean 'math'?"),
    ("data=arithmetc", "data=arithmetc: no such data;", "Did you mean 'arithmetic'?"),
    ("model=tny", "model=tny: no such model; there are hf, retry, smollm2, tiny.", "Did you mean 'tiny'?"),
    ("model=../train", "model=../train: no such model; there are hf, retry, smollm2, tiny."),
    (
        "experiment=paper_qwen",
        "experiment=paper_qwen: no such experiment; there are one_gpu, paper_qwen3_4b, two_nodes.",
    ),
    ("trainer=atuo", "trainer=atuo: no such trainer; there are", "Did you mean 'auto'?"),
    ("logger=x", "logger=x: no such logger; there are local, none, wandb."),
    ("logger=[local,x]", "logger=x: no such logger; there are local, none, wandb."),
    ("objective=null", "objective=null: one name is needed, of cispo,"),
    ("objective=[grpo,nsr]", "objective=[grpo,nsr]: one name is needed, of cispo,"),
    ("objective={name: nsr}", "one name is needed, of cispo,", "set a field by objective.FIELD=VALUE"),
    ("objective.name=nsr", "objective is grpo, and name=nsr does not change that; write objective=nsr"),
    ("~objective", "~objective: a run needs one; choose it by objective=NAME: cispo,"),
    ("~model", "~model: a run needs one; choose it by model=NAME: hf,"),
    ("objective.keep=negativ", "objective: unknown keep 'negativ'; registered are all,", "Did you mean 'negative'?"),
    ("objective.keep=null", "objective: keep must be a name or {name: ..., parameter: value}, not None"),
    ("objective.kl.space=marg", "objective: unknown space 'marg'", "Did you mean 'marginal'?"),
    ("objective.surrogate={name: ppo_clop}", "unknown surrogate 'ppo_clop'; registered are", "'ppo_clip'?"),
    ("objective.surrogate={name: ppo_clip, clip: 1}", "has no parameter 'clip'; its parameters are clip_low,"),
    (
        "objective.surrogate={name: reinforce, clip: 1}",
        "surrogate 'reinforce' has no parameter 'clip'; it takes no parameters",
    ),
    ("objective.surrogate.name=gspo", "objective.surrogate is ppo_clip,", "write objective.surrogate=gspo"),
    ("objective=mixed|objective.objectives.nsr_prel.weight=1", "unknown objective 'nsr_prel'", "'nsr_prerl'?"),
    ("objective=mixed|objective.objectives.nsr_prerl.weigth=1", "objective 'nsr_prerl' has no parameter 'weigth'"),
    ("verifier=composite", "verifier composite: components must be a mapping, {NAME: weight}", "not {}"),
    ("verifier=composite|verifier.components={mth: 1}", "unknown verifier 'mth'", "Did you mean 'math'?"),
    ("verifier=composite|verifier.components.math.timeot=1", "verifier 'math' has no parameter 'timeot'", "'timeout'?"),
    ("verifier=by_source|verifier.sources={a: exct}", "unknown verifier 'exct'", "Did you mean 'exact'?"),
    ("verifier=function", "verifier.path is not set: give verifier.path=VALUE"),
    ("verifier=function|verifier.path=no.such:fn", "path=no.such:fn: ModuleNotFoundError: No module named 'no'"),
    ("verifier=length|verifier.max_length=9|verifier.cache=10", "cache=10 must be from 1 to max_length=9, in tokens"),
    ("verifier=regex|verifier.pattern='(a'", "verifier regex: pattern=(a: not a regular expression"),
]
KEYS = [
    ("objective.surrogate.clip_hi=1", "Did you mean 'objective.surrogate.clip_high'?", "Keys there: clip_low,"),
    (
        "objective.surrogate=reinforce|objective.surrogate.clip_high=1",
        "objective.surrogate=reinforce has no parameters",
    ),
    ("objective.kl.coeff=1", "unknown key 'objective.kl.coeff'. Did you mean 'objective.kl.coefficient'?"),
    ("objective.kl={coeff: 1}", "unknown key 'objective.kl.coeff'. Did you mean 'objective.kl.coefficient'?"),
    ("objective.foo=1", "unknown key 'objective.foo'.", "Keys there: coefficient, space,"),
    ("+objective.foo=1", "unknown key 'objective.foo'.", "Keys there: coefficient, space,"),
    ("++objective.foo=1", "unknown key 'objective.foo'.", "Keys there: coefficient, space,"),
    ("+sampling.foo=1", "unknown key 'sampling.foo'.", "Keys there: max_new_tokens,"),
    ("+optimiser.lr=3", "unknown key 'optimiser'. Did you mean 'optimizer'?"),
    ("optimiser.lr=3", "unknown key 'optimiser.lr'. Did you mean 'model.lr' or 'optimizer.lr'?"),
    ("optimizer.learning_rate=1", "unknown key 'optimizer.learning_rate'", "Keys there: lr, weight_decay,"),
    ("+optimizer.learning_rate=1", "unknown key 'optimizer.learning_rate'", "Keys there: lr, weight_decay,"),
    ("temperature=1", "Did you mean 'sampling.temperature' or 'validation.temperature'?"),
    ("seeed=1", "unknown key 'seeed'. Did you mean 'seed'?"),
    ("+foo.bar=1", "unknown key 'foo'."),
    ("+iterations=3", "+iterations=3: iterations is there already; write iterations=3, without +"),
    ("~optimizer.lr", "~optimizer.lr: it cannot be taken away, only set"),
    (
        "data.train=x.jsonl",
        "unknown key 'data.train'. It belongs to data=parquet and data=questions. Keys there: system_prompt,",
    ),
    ("logger.csv.foo=1", "unknown key 'logger.csv.foo'.", "Keys there: _target_,"),
    ("+logger.foo=1", "logger.foo=1: must have _target_, the class of a Lightning logger"),
    ("hydra.foo=1", "unknown key 'hydra.foo'."),
]
PHASES = [
    ("+phase_2=grpo", "unknown key 'phase_2'. Did you mean 'phase2'?"),
    ("+phase6=grpo", "unknown key 'phase6'."),
    ("phase2=grpo", "phase2=grpo: phase2 is not set yet; write +phase2=NAME"),
    ("++phase2=grpo", "++phase2=grpo: write phase2=NAME, or +phase2=NAME where it is not set yet"),
    ("+phase2=grop", "phase2=grop: no such objective; there are cispo,", "Did you mean 'grpo'?"),
    ("+phase2={objective: grpo}", "one name is needed, of cispo,"),
    ("phase2.start=3", "phase2.start=3: there is no phase 2; add one by +phase2=NAME"),
    ("+phase2.start=3", "phase2.start: there is no phase 2; add one by +phase2=NAME"),
    ("phase2.start=drop", "phase2.start: there is no phase 2; add one by +phase2=NAME"),
    ("+phase3=grpo|phase3.start=3", "+phase3 needs +phase2, too: phases follow each other without a gap"),
    ("+phase3=grpo", "+phase3 needs +phase2, too", "phase3.start is not set: give phase3.start=VALUE, the iteration"),
    ("+phase2=grpo|+phase2=nsr", "phase2 is given 2 times: grpo, nsr; give it once"),
    ("+phase2=grpo|experiment=paper_qwen3_4b", "phase2 has a value,", "write phase2=grpo, without +"),
    ("+phase2=grpo|phase2.objective=nsr", "phase2.objective=nsr: choose the objective of a phase by +phase2=NAME"),
    ("+phase2=grpo|phase2.objective={name: nsr}", "phase2.objective is grpo", "write +phase2=nsr"),
    ("+phase2=grpo|phase2.objective.kep=all", "Did you mean 'phase2.objective.keep'?"),
    ("+phase2=grpo|phase2.lr=x", "phase2.lr=x: must be a number"),
    ("+phase2=grpo|phase2.sampling.temperature=0", "phase2.sampling.temperature=0.0: training samples need"),
    ("+phase2=grpo|phase2.schedule=cosin", "phase2.schedule=cosin: allowed are constant,", "'cosine'?"),
    (
        "+phase2=grpo|phase2.start=soon",
        "phase2.start=soon: must be an iteration (a whole number), or a condition (drop,",
    ),
    ("+phase2=grpo|phase2.start=1.5", "phase2.start=1.5: must be an iteration (a whole number), or a condition (drop,"),
    ("+phase2=grpo|phase2.start=null", "phase2.start=null: must be an iteration (a whole number), or a condition"),
    ("+phase2=grpo|phase2.start=true", "phase2.start=True: must be an iteration (a whole number), or a condition"),
    ("+phase2=grpo|phase2.start={name: drop, bz: 1}", "phase2.start: condition 'drop' has no parameter 'bz';", "'by'?"),
    ("+phase2=grpo|phase2.start={name: drop, by: -1}", "phase2.start: by must be at least 0, not -1.0"),
    ("+phase2=grpo|phase2.start={name: drop, earliest: 50}", "phase2.start.earliest=50: never reached, iterations=40"),
    (
        "+phase2=grpo|phase2.start={name: drop, metric: val/x/avg@4}|validation.every=0",
        "phase2.start.metric=val/x/avg@4: it needs a validation, which has data.val and validation.every of at least 1",
    ),
    ("+phase2=grpo|phase2.start=0", "phase2.start=0: a later phase starts at iteration 1 or after"),
    ("+phase2=grpo|phase2.start=-1", "phase2.start=-1: a later phase starts at iteration 1 or after"),
    ("+phase2=grpo|phase2.start=40", "phase2.start=40: never reached, iterations=40 end with 39"),
    ("+phase2=grpo|+phase3=grpo|phase3.start=3", "phase3.start=3: must come after phase 2, which starts at 5"),
    ("+phase2=grpo|+phase3=nsr|phase2.start={name: drop, earliest: 9}|phase3.start=9", "starts at 9 or later"),
]
OLD = [
    ("refill=2", "refill is now called dynamic_sampling"),
    ("samples_per_iteration=2", "samples_per_iteration is now called logged_samples"),
    ("update.max_tokens=9", "update.max_tokens is now called update.micro_batch_tokens"),
    ("update={max_tokens: 9}", "update.max_tokens is now called update.micro_batch_tokens"),
    ("+update.max_tokens=9", "update.max_tokens is now called update.micro_batch_tokens"),
    ("sampler=vllm|sampler.sleep=1", "sampler.sleep is now called sampler.sleep_level"),
    ("sampler.batch_size=9", "sampler.batch_size is now called sampler.max_batch_total_tokens, and counts tokens,"),
]
LIGHTNING = [
    ("trainer.max_epochs=3", "unknown key 'trainer.max_epochs': iterations says how long a run is"),
    ("+trainer.gradient_clip_val=1", "unknown key 'trainer.gradient_clip_val': update.clip_norm says it"),
    ("trainer.plugins=x", "unknown key 'trainer.plugins': trainer.strategy and trainer.precision choose them"),
    ("trainer.max_time=soon", "trainer.max_time=soon: must be days:hours:minutes:seconds, such as '00:03:30:00'"),
    ("trainer.profiler=simpel", "trainer.profiler=simpel: allowed are simple, advanced, pytorch.", "'simple'?"),
    ("trainer.deterministic=warn", "trainer.deterministic=warn: must be true or false"),
    ("callbacks=x", "callbacks=x: no such callbacks; there are none."),
    ("+callbacks.mine.arg=1", "callbacks.mine={'arg': 1}: must have _target_, the class of a Lightning callback"),
    ("callbacks.mine._target_=x", "unknown key 'callbacks.mine._target_'.", "write +callbacks.mine._target_=VALUE"),
]
VALUES = [
    ("iterations=abc", "iterations=abc: must be a whole number"),
    ("iterations=1.5", "iterations=1.5: must be a whole number"),
    ("iterations=${nope}", "iterations=${nope}: Interpolation key 'nope' not found"),
    ("iterations=???", "iterations is not set: give iterations=VALUE"),
    ("optimizer.lr=fast", "optimizer.lr=fast: must be a number"),
    ("optimizer=adam", "optimizer=adam: must be set by its fields, optimizer.FIELD=VALUE: lr, weight_decay,"),
    ("optimizer.betas=[a,b]", "optimizer.betas=[a,b]: must be a list, [a,b], each a number"),
    ("optimizer.betas=[0.9]", "optimizer.betas=[0.9]: must be two numbers in [0, 1)"),
    ("objective.coefficient=x", "objective.coefficient=x: must be a number"),
    ("objective.surrogate.clip_high=x", "objective.surrogate.clip_high=x: must be a number"),
    ("sampler.max_batch_total_tokens=x", "sampler.max_batch_total_tokens=x: must be a whole number"),
    ("verifier=math|verifier.workers=x", "verifier.workers=x: must be a whole number or null"),
    ("validation.k=null", "validation.k=null: must be a whole number"),
    ("iterations=0", "iterations=0: must be at least 1"),
    ("responses_per_prompt=-2", "responses_per_prompt=-2: must be at least 1"),
    ("seed=-1", "seed=-1: must be in [0, 2**32)"),
    ("sampling.temperature=0", "sampling.temperature=0.0: training samples need a temperature above 0"),
    ("sampling.temperature=inf", "sampling.temperature=inf: must be a finite number"),
    ("sampling.top_p=0", "sampling.top_p=0.0: must be in (0, 1]"),
    ("optimizer.lr=nan", "optimizer.lr=nan: must be a finite number"),
    ("objective.coefficient=inf", "objective.coefficient=inf: must be a finite number"),
    ("optimizer.schedule=cosin", "optimizer.schedule=cosin: allowed are constant, linear, cosine.", "'cosine'?"),
    ("model.activation_offloading=true", "add model.gradient_checkpointing=true"),
    ("trainer.precision=bf16", "trainer.precision=bf16: allowed are auto, 32-true, bf16-mixed, bf16-true, 16-true"),
    ("trainer.strategy=ddpp", "trainer.strategy=ddpp: allowed are"),
    ("model.attn_implementation=sdpaa", "model.attn_implementation=sdpaa: allowed are", "Did you mean 'sdpa'?"),
    ("model.reflection='('", "model.reflection is gone, instead there is thoughts: thoughts=seal and thoughts=words"),
    (
        "thoughts=sael",
        "thoughts: unknown thoughts 'sael'; registered are arithmetic, pattern, seal, words. Did you mean",
    ),
    (
        "thoughts=null",
        "thoughts is not set: choose one, thoughts=NAME; registered are arithmetic, pattern, seal, words",
    ),
    ('thoughts={name: pattern, classes: {doubt: "("}}', "thoughts: classes.doubt=(: not a regular expression"),
    ("thoughts.languages=[en]", "unknown key 'thoughts.languages'. thoughts=arithmetic has no parameters."),
    ("update.minibatches=100", "update.minibatches=100: at most prompts_per_iteration=64"),
    ("responses_per_prompt=1", "objective: advantage group_norm", "responses_per_prompt >= 2, not 1"),
    ("objective.kl.estimator=k9", "objective: kl.estimator must be one of k1, k2, k3, not 'k9'"),
    ("objective.surrogate.dual_clip=0.5", "dual_clip must be above 1 or null, not 0.5"),
    ("objective=grpo,nsr", "objective=grpo,nsr: several values are a sweep, which needs -m"),
]
FILES = [
    ("model=hf", "model.name is not set: give model.name=VALUE, tiny, retry, smollm2, a folder,"),
    ("model=hf|model.name=''", "model.name is empty: tiny, retry, smollm2, a folder,"),
    ("model=hf|model.name=null", "model.name=null: must be text"),
    ("model=hf|model.name=./nope", "model.name=./nope: no config.json in that folder"),
    ("data=parquet", "data.train is not set: give a file, a folder or a hub name, data.train=PATH"),
    ("data=parquet|data.train=/nope.jsonl", "data.train=/nope.jsonl: no such file"),
    (
        "data=parquet|data.train=/etc",
        "data.train=/etc: expected one of .parquet, .jsonl, .json, .csv, .tsv (these also with .gz",
    ),
    ("data=questions|data.train=aimee24", "no such file, folder, benchmark or data source", "Did you mean 'aime24'?"),
    ("data=questions|data.train={path: a/b, colums: x}", "data.train=a/b: an entry has no 'colums'; it has path, set,"),
    ("data=reasoning_gym|data.tasks=[chain_sums]", "reasoning_gym has no task 'chain_sums'. Did you mean 'chain_sum'?"),
    ("dynamic_sampling=-1", "dynamic_sampling=-1: must be at least 0"),
    ("curriculum.always_right=2", "curriculum.always_right=2.0: must be in [0, 1]"),
    ("data.overlong=crop", "data.overlong=crop: allowed are cut, drop"),
    ("data.template=Q", "data.template='Q': must contain {question}"),
    ("resume=/nope.ckpt", "resume=/nope.ckpt: no such checkpoint; `last` is the newest in run_dir"),
    ("run_dir=''", "run_dir is empty"),
    ("run_dir=/etc/passwd", "run_dir=/etc/passwd: cannot be made, since a file is in its way"),
]
WORDS = ["objective", "=x", "a b", "objective=[grpo", "objective==grpo", "öbjective=grpo", "objective=ñsr", "--", ""]


@pytest.mark.parametrize("case", NAMES + KEYS + OLD + LIGHTNING + PHASES + VALUES + FILES, ids=lambda case: case[0])
def test_message(case):
    line, *fragments = case
    with pytest.raises(ConfigError) as refused:
        check_command_line(line.split("|"))
    for fragment in fragments:
        assert fragment in str(refused.value)


@pytest.mark.parametrize("word", WORDS)
def test_what_cannot_be_read(word):
    with pytest.raises(ConfigError) as refused:
        check_command_line([word])
    assert str(refused.value).startswith(f"cannot read '{word}': write KEY=VALUE, with quotes around")


def told(line, **how):
    with pytest.raises(ConfigError) as refused:
        check_command_line(line, **how)
    return str(refused.value).splitlines()


def test_all_problems_are_told_at_once():
    lines = told(["iterations=0", "responses_per_prompt=1", "sampling.top_p=2"])
    assert lines[:2] == ["iterations=0: must be at least 1", "sampling.top_p=2.0: must be in (0, 1]"]
    assert len(lines) == 3 and "responses_per_prompt >= 2, not 1" in lines[2]
    assert len(told(["seeed=1", "iterations=x", "optimizer.lr=1e-3", "objective.keep=all", "objective.kep=all"])) == 3
    assert len(told(["objective=grop", "model=tny", "sampler=hff"])) == 3


def test_what_follows_from_a_wrong_name_is_not_told():
    (line,) = told(["+phase2=grop", "phase2.start=3", "phase2.objective.keep=all"])
    assert line.startswith("phase2=grop: no such objective")


def test_a_sweep_is_refused_for_any_of_its_jobs():
    assert told(["objective=grpo,grp"], multirun=True)[0].startswith("objective=grp: no such objective")
    assert told(["iterations=3,0"], multirun=True) == ["iterations=0: must be at least 1"]
    assert told(["optimizer.lr=interval(0,1)"], multirun=True)[0].endswith("a,b or choice(a,b) or range(1,5)")
    assert "cannot be swept" in told(["run_dir=a,b"], multirun=True)[0]


def start(composed):
    check_run_dir(build_run_config(composed))


def test_an_existing_run_is_not_overwritten(tmp_path):
    (tmp_path / "0").mkdir()
    for folder in (tmp_path, tmp_path / "0"):
        (folder / "hf").mkdir()
    assert "holds a run already" in told([f"run_dir={tmp_path}"], check=start)[0]
    sweep = told(["seed=1,2", f"run_dir={tmp_path}"], multirun=True, check=start)
    assert sweep[0].startswith(f"run_dir={tmp_path}/0: holds a run")
    assert compose([f"run_dir={tmp_path}", "resume=last"]).resume == "last"
    (tmp_path / "x.ckpt").touch()
    assert "needs a new one" in told([f"run_dir={tmp_path}", f"resume={tmp_path}/x.ckpt"], check=start)[0]


def test_only_the_form_is_checked_where_nothing_runs():
    line = ["model=hf", "data=parquet"]
    assert check_command_line(line, check=lambda composed: None) == line
    with pytest.raises(ConfigError, match="no such objective"):
        check_command_line(["objective=grop"], check=lambda composed: None)
