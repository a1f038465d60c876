"""The command as a user meets it: what may be evaluated, messages, comparison."""

import json
import re
import sys
from pathlib import Path

import lightning as L
import pytest
from rich.console import Console

from dsrl.errors import ConfigError
from dsrl.evaluate import main, run
from dsrl.evaluation import EvaluationConfig
from dsrl.evaluation.config import compose_evaluation
from dsrl.samplers.hf import HFSampler

ROOT = Path(__file__).parents[1]
SMALL = ("k=2", "limit=2", "questions_per_batch=1", "sampling.max_new_tokens=8")


def printed(*arguments):
    console = Console(record=True, width=200)
    run(arguments, console)
    return console.export_text()


def numbers(folder):
    return json.loads((folder / "results.json").read_text())["results"]


@pytest.mark.parametrize("form", ["checkpoint.sharded=false", "checkpoint.sharded=true"])
def test_a_run_its_checkpoint_and_its_folder_are_one_model(form, fit, tmp_path):
    """And the samples are those of its last validation."""
    module = fit("iterations=1", "model.max_new_tokens=64", form)
    runs = {
        "run": f"model={tmp_path}/run",
        "checkpoint": f"model={tmp_path}/run/checkpoints/iteration0.ckpt",
        "folder": f"model={tmp_path}/run/hf",
    }
    same = ["k=2", "data=arithmetic", "data.val_size=6", "sampling.max_new_tokens=64", "thoughts=arithmetic"]
    for name, model in runs.items():
        printed(model, f"run_dir={tmp_path}/of_{name}", *(["k=2"] if name == "run" else same))
    found = {name: numbers(tmp_path / f"of_{name}")["arithmetic"] for name in runs}
    assert found["run"] == found["checkpoint"] == found["folder"]
    assert found["run"]["avg@2"] == pytest.approx(module.validated["val/arithmetic/avg@2"])
    assert found["run"]["pass@2"] == pytest.approx(module.validated["val/arithmetic/pass@2"])
    told = printed(f"compare=[{tmp_path}/of_run,{tmp_path}/of_folder]")
    assert "+0.000" in told and "pass@2" in told


def composed(*overrides):
    return compose_evaluation(overrides)


def test_what_a_run_says_where_the_command_line_is_silent(tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").touch()
    config = {
        "model": {"name": "tiny", "chat": False, "max_new_tokens": 77, "reflection": "\\?'\"{x}"},
        "data": {
            "name": "parquet",
            "train": "t.jsonl",
            "val": ["v.jsonl"],
            "template": "Q: {question}",
            "max_prompt_tokens": 9,
        },
        "verifier": {"name": "exact", "marker": "="},
        "sampling": {"max_new_tokens": 55, "stop": ["#"], "temperature": 0.9},
        "validation": {"temperature": 0.6},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    own = composed(f"model={tmp_path}")
    assert (own.model.name, own.model.chat) == (f"{tmp_path}/hf", False)
    assert own.thoughts == {"name": "pattern", "classes": {"reflection": "\\?'\"{x}"}}  # as version 0.2 counted
    assert (own.data.name, own.data.train, own.data.val, own.verifier.marker) == ("parquet", None, ["v.jsonl"], "=")
    assert (own.sampling.max_new_tokens, own.sampling.stop, own.sampling.temperature) == (55, ["#"], 0.6)
    other = composed(f"model={tmp_path}", "data.val=[aime24]", "sampling.temperature=1", "model.chat=true")
    assert (other.data.name, other.data.val, other.data.template) == ("questions", ["aime24"], "Q: {question}")
    assert (other.verifier.name, other.sampling.temperature, other.model.chat) == ("math", 1.0, True)


@pytest.mark.parametrize(
    ("line", "verifier"),
    [
        ("", "exact"),
        ("data.val=arithmetic", "exact"),
        ("model=retry", "exact"),
        ("model=retry data.val=aime24", "math"),
        ("data.val=[retry,arithmetic]", "exact"),
        ("data.val=[aime24]", "math"),
        ("data.val=[aime24] verifier=exact", "exact"),
        ("model=some/name data.val=x.jsonl", "math"),
        ("data.val=[arithmetic]", "exact"),
        ("data.val={name:arithmetic}", "exact"),
        ("data.val=[{name:reasoning_gym,tasks:[chain_sum]}]", "reasoning_gym"),
        ("data=reasoning_gym data.tasks=[chain_sum]", "reasoning_gym"),
        ("data.val=[{path:x.jsonl,set:y},aime24]", "math"),
        ("data.val=[arithmetic,x.jsonl] verifier=exact", "exact"),
    ],
)
def test_the_verifier_fits_the_questions(line, verifier):
    assert composed(*line.split()).verifier.name == verifier


def test_a_model_is_asked_its_own_questions():
    asked = [composed(*line.split()).data.val for line in ("", "model=retry", "model=retry data.val=arithmetic")]
    assert asked == ["arithmetic", "retry", "arithmetic"]
    assert composed("model=retry", "data=retry", "data.guesses=3").data.guesses == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("k=0", "k=0: must be at least 1"),
        ("kk=3", "unknown key 'kk'."),
        ("objective=grpo", "unknown key 'objective'."),
        ("phase2.start=3", "unknown key 'phase2.start'."),
        ("sampler=hff", "sampler=hff: no such sampler; there are"),
        ("verifier=mat", "Did you mean 'math'?"),
        ("sampling.temperature=-1", "sampling.temperature=-1.0: must be at least 0 (0: greedy)"),
        ("sampling.top_p=0", "sampling.top_p=0.0: must be in (0, 1]"),
        ("accelerator=tpu", "accelerator=tpu: allowed are auto, cpu,"),
        ("model=./nope", "model.name=./nope: no config.json in that folder"),
        ("model=nope.ckpt", "model=nope.ckpt: no such checkpoint"),
        ("model=/etc", "model=/etc: the folder holds neither a run (config.yaml) nor a model (config.json)"),
        ("data.val=nope.jsonl", "data.val=nope.jsonl: no such file"),
        ("data.val=aimee24", "Did you mean 'aime24'?"),
        ("run_dir=/etc/passwd", "cannot be made, since a file is in its way"),
        ("resume=/nope", "resume=/nope: no evaluation there (no config.yaml, which"),
        ("compare=a", "compare=a: no such run, checkpoint or folder; a name on the hub is written owner/name"),
        ("compare=", "compare=: give an evaluation or a model, or two evaluations, compare=[FIRST,SECOND]"),
        ("compare=[/a,/b]", "/a: no evaluation there (no samples.jsonl)"),
        ("compare=[/a,/b] k=2", "compare=[/a,/b]: must be two evaluations, compare=[FIRST,SECOND], and nothing else"),
        ("compare=[/a,/b] run_dir=/etc/passwd", "cannot be made, since a file is in its way"),
        ("--config-dir", "unrecognized arguments: --config-dir; there are --help, --cfg job and --resolve"),
        ("k=2,4", "k=2,4: one value is needed; a list is written [a,b]"),
        ("resume=/a resume=/b", "resume is given 2 times: /a, /b; give it once"),
        ("model=nowhere", "model=nowhere: no such run, checkpoint or folder; a name on the hub is written owner/name"),
        ("model=null", "model=null: must be a run, a checkpoint, a folder or a name"),
    ],
)
def test_messages(line, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate", *line.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert message in err and err.startswith("error: ") and "Traceback" not in err


def test_questions_of_different_verifiers():
    message = "different verifiers check (exact for arithmetic, math for x.jsonl): evaluate them one by one, or choose"
    with pytest.raises(ConfigError, match=re.escape(message)):
        composed("data.val=[arithmetic,x.jsonl]")


def test_an_evaluation_is_no_model(tmp_path):
    (tmp_path / "config.yaml").write_text("k: 3\n")
    with pytest.raises(ConfigError, match=r"is not that of a run; an evaluation goes on by resume=/"):
        composed(f"model={tmp_path}")


def test_a_run_that_goes_on_after_its_end_is_evaluated_at_its_newest(fit, tmp_path):
    fit("iterations=1")
    assert composed(f"model={tmp_path}/run").model.name == f"{tmp_path}/run/hf"

    class Killed(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.current_epoch == 2:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        fit("iterations=9", "resume=last", "checkpoint.every=1", callbacks=(Killed(),))
    own = composed(f"model={tmp_path}/run")
    assert (own.model.name, own.checkpoint) == ("tiny", f"{tmp_path}/run/checkpoints/iteration2.ckpt")


def test_interrupted(tmp_path, monkeypatch, capsys):
    def stop(sampler, prompts, params):
        raise KeyboardInterrupt

    whole = HFSampler.sample
    monkeypatch.setattr(sys, "argv", ["evaluate", *SMALL, f"run_dir={tmp_path}/x"])
    monkeypatch.setattr(HFSampler, "sample", stop)
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == "interrupted before the first samples\n"
    monkeypatch.setattr(
        HFSampler, "sample", lambda *given: whole(*given) if given[1][0].position == 0 else stop(*given)
    )
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == f"interrupted; resume={tmp_path}/x goes on\n"


def test_a_comparison_as_json(tmp_path):
    for name in "ab":
        printed(*SMALL, f"run_dir={tmp_path}/{name}")
    printed(f"compare=[{tmp_path}/a,{tmp_path}/b]", f"run_dir={tmp_path}/both")
    found = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert (found["first"], found["second"]) == (f"{tmp_path}/a", f"{tmp_path}/b")
    assert found["results"]["arithmetic"]["metrics"]["avg"]["difference"] == 0


def test_another_model_answers_the_same_questions(tmp_path):
    """The thoughts of both, and a ratio of 1: it is the same model. An evaluation in its place gives the same."""
    more = ("k=4", "limit=24", "questions_per_batch=24", f"run_dir={tmp_path}/own")
    told = printed("model=tiny", "compare=tiny", *more)
    own, compared = (numbers(folder)["arithmetic"] for folder in (tmp_path / "own", tmp_path / "own" / "compared"))
    assert own == compared and own["thoughts/reflection/per_answer"] > 0.2
    found = json.loads((tmp_path / "own" / "comparison.json").read_text())
    assert (found["first"], found["second"]) == (f"{tmp_path}/own/compared", f"{tmp_path}/own")
    ratio = found["results"]["arithmetic"]["thoughts"]["reflection"]
    assert ratio["first"] == ratio["second"] == round(96 * own["thoughts/reflection/per_answer"]) >= 20
    assert (ratio["per_answer"], ratio["per_answer_ci95"], ratio["too_rare"]) == (1.0, [1.0, 1.0], False)
    assert "1.00x (1.00 to 1.00)" in told
    again = printed(f"resume={tmp_path}/own", f"compare={tmp_path}/own/compared")
    assert "1.00x (1.00 to 1.00)" in again
    with pytest.raises(ConfigError, match="holds the answers of another model; choose another run_dir"):
        printed(f"resume={tmp_path}/own", f"compare={ROOT}/dsrl/models/tiny")


def test_nothing_to_evaluate(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.val is not set: give what is to be evaluated"):
        printed("data.val=null", f"run_dir={tmp_path}/x")


def test_help_and_configuration(capsys):
    run(["--help"], Console())
    assert "python -m dsrl.evaluate model=RUN k=32" in capsys.readouterr().out
    run(["--cfg", "job", "k=3"], Console())
    assert "\nk: 3\n" in capsys.readouterr().out
    run(["k=4", "--cfg=job", "--resolve"], Console())
    assert "\nk: 4\n" in capsys.readouterr().out
    run(["data.val_size=3", "data=arithmetic", "--cfg", "prompt", "sampling.max_new_tokens=8"], Console())
    assert re.fullmatch(r"first prompt of arithmetic \(\d+ tokens\):\n  \| <bos>\d+\+\d+=\n", capsys.readouterr().out)
    assert EvaluationConfig.of(["k=3"]).k == 3
