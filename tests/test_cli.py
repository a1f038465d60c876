"""The command line as a user meets it: exit codes, what is printed, sweeps, the wheel."""

import json
import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from dsrl import registry
from dsrl.train import main

ROOT = Path(__file__).parents[1]


def train(*arguments):
    command = [sys.executable, "train.py", *arguments]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True, timeout=900)


def test_a_bad_name_ends_with_one_message():
    done = train("objective=grp")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: objective=grp: no such objective; there are ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg", "job", "objective=grp"], "error: objective=grp: no such objective; there are "),
        (["--help", "optimiser.lr=1"], "error: unknown key 'optimiser.lr'."),
        (["-m", "objective=grpo,grp"], "error: objective=grp: no such objective; there are "),
        (["--cfg", "job", "-m"], "error: --cfg and --multirun: choose one"),
        (["--cfg", "prompts"], "error: --cfg=prompts: allowed are job, prompt, hydra, all. Did you mean 'prompt'?"),
        (["--cfg", "prompt", "data=questions"], "error: data.train is not set: give a file"),
        (["--resolve"], "error: --resolve goes with --cfg or --help"),
        (["--config-dir", "/nope"], "error: --config-dir=/nope: no such folder"),
        (["--config-name", "x"], "error: --config-name=x: write an experiment instead: --config-dir FOLDER"),
    ],
)
def test_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(message)


@pytest.mark.parametrize(
    ("module", "argument", "message"),
    [
        ("dsrl.train", "objective=grp", "error: objective=grp: no such objective"),
        ("dsrl.evaluate", "k=0", "error: k=0: must be at least 1"),
        ("dsrl.export", "--nope", "usage: python -m dsrl.export"),
        ("dsrl.plan", "--nope", "error: --nope: there is --help"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")
def test_every_command_is_a_module_that_runs(module, argument, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["python -m", argument])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(message)


def test_an_option_that_is_none(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--objective=grpo"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "train.py: error: unrecognized arguments: --objective=grpo"


@pytest.mark.parametrize(
    ("source", "words", "said"),
    [
        (None, ["--help"], "error: plugin DSRL_PLUGINS:broken_plugin failed to load: No module named 'broken_plugin'"),
        ("1 / 0", ["objective=mine"], "plugin DSRL_PLUGINS:broken_plugin failed to load: ZeroDivisionError"),
        (
            "from dsrl import register\nregister('keep', 'all')(len)",
            ["objective=grpo", "objective.keep=mine"],
            "plugin DSRL_PLUGINS:broken_plugin failed to load: keep 'all' is registered twice: by ",
        ),
    ],
)
def test_a_plugin_that_fails_is_named_where_it_is_used(source, words, said, tmp_path, monkeypatch, capsys):
    if source:
        (tmp_path / "broken_plugin.py").write_text(source)
    for name in ("_loaded", "_failed"):
        monkeypatch.setattr(registry.plugins, name, type(getattr(registry.plugins, name))())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DSRL_PLUGINS", "broken_plugin")
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_cfg_job_prints_and_loads_nothing(tmp_path, monkeypatch, capsys):
    line = [f"run_dir={tmp_path}/run", "--cfg", "job", "--resolve", "model=hf", "objective.surrogate=gspo"]
    monkeypatch.setattr(sys, "argv", ["train.py", *line])
    main()
    GlobalHydra.instance().clear()
    printed = OmegaConf.create(capsys.readouterr().out)
    assert (printed.optimizer.lr, printed.objective.surrogate.clip_high) == (1e-6, 4e-4)
    assert OmegaConf.is_missing(printed.model, "name")  # only the form is checked
    assert not (tmp_path / "run").exists()


def test_cfg_prompt_shows_the_first_prompts_and_runs_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "sums.csv").write_text("question,answer\n1234+4321=,5555\n")
    (tmp_path / "held.csv").write_text("question,answer\n11+22=,33\n7+8=,15\n")
    line = ["data=questions", f"data.train={tmp_path}/sums.csv", f"data.val={tmp_path}/held.csv", "--cfg", "prompt"]
    monkeypatch.setattr(sys, "argv", ["train.py", *line, f"run_dir={tmp_path}/run", "data.max_prompt_tokens=8"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == (
        "first prompt of data.train (8 tokens, without its beginning):\n  | 34+4321=\n"
        "first prompt of data.val held (7 tokens):\n  | <bos>11+22=\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_sweep_writes_each_run_under_its_own_folder(tmp_path):
    line = "-m objective=nsr_prerl +phase2=grpo,gspo phase2.start=1 iterations=2 prompts_per_iteration=2"
    sizes = "responses_per_prompt=2 sampling.max_new_tokens=8 validation.every=0 logger=none"
    done = train(*line.split(), *sizes.split(), f"run_dir={tmp_path}/sweep")
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "sweep" / "index.json").read_text())["jobs"]
    told = [(job["overrides"], job["state"], job["iterations_done"]) for job in index]
    assert told == [({"phase2": name}, "finished", 2) for name in ("grpo", "gspo")]
    assert [line for line in done.stdout.splitlines() if "gspo" in line and "finished" in line and "2/2" in line]
    for job, objective in enumerate(["grpo", "gspo"]):
        folder = tmp_path / "sweep" / str(job)
        rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["objective"] for row in rows] == ["nsr_prerl", objective]
        assert OmegaConf.load(folder / "config.yaml").run_dir == str(folder)


@pytest.mark.slow
def test_the_wheel_holds_the_configs_and_the_console_script(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    if done.returncode and "No matching distribution found for hatchling" in done.stdout + done.stderr:
        pytest.skip("build isolation cannot download hatchling")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert {"dsrl/configs/train.yaml", "dsrl/configs/callbacks/none.yaml", "dsrl/py.typed"} <= {*wheel.namelist()}
        scripts = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        commands = wheel.read(scripts).decode()
    for name in ("train", "evaluate", "align", "export", "plan", "report", "claims"):
        assert f"dsrl-{name} = dsrl.{name}:main" in commands


def test_what_only_composes_loads_no_library_of_models():
    code = (
        "import sys, dsrl.train; dsrl.train.check_command_line([], check=lambda composed: None); "
        "print({'datasets', 'lightning', 'pyarrow', 'sympy', 'torchmetrics', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.stdout == "set()\n", done.stderr
