"""A third-party package beside dsrl, found by entry point or by DSRL_PLUGINS."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from dsrl import registry
from dsrl.config.compose import compose
from dsrl.config.store import LATER_PHASES
from dsrl.errors import ConfigError
from dsrl.registry import KINDS, load_plugins, registered_parts
from dsrl.train import main

SITE = Path(__file__).parent / "site"  # as pip fills one; pytest puts the folder of a test on the path, so not there
ROOT = Path(__file__).parents[2]
DIGITS = """
from dsrl import register
from dsrl.verifiers import Verifier

@register("verifier", "digits")
class Digits(Verifier):
    def score_one(self, response, prompt):
        return 0.0
"""
CALLBACK = """
import lightning as L

class Says(L.Callback):
    def on_train_end(self, trainer, module):
        print("the callback was here")
"""


def train(*arguments, **environment):
    command = [sys.executable, "train.py", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture
def installed(monkeypatch):
    """The package on the path of this process; what it registers is forgotten afterwards."""
    load_plugins()
    for kind in KINDS:
        monkeypatch.setitem(registered_parts, kind, dict(registered_parts[kind]))
    monkeypatch.setattr(registry.plugins, "_loaded", set(registry.plugins._loaded))
    monkeypatch.syspath_prepend(SITE)
    yield
    sys.modules.pop("mine_plugin", None)
    for group in ("objective", *LATER_PHASES):
        ConfigStore.instance().repo[group].pop("mine.yaml", None)


def test_an_entry_point_is_chosen_by_name_and_has_fields(installed):
    first, second = compose(["objective=mine", "objective.pace=3", "+phase2=mine", "phase2.objective.keep=all"]).phases
    assert (first.name, first.objective.pace, first.objective.space) == ("mine", 3, "marginal")
    assert (second.name, second.objective.pace, second.objective.keep) == ("mine", 1, "all")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["objective=mine", "objective.pace=fast"], "objective.pace=fast: must be a whole number"),
        (["objective=mine", "objective.pase=2"], "unknown key 'objective.pase'. Did you mean 'objective.pace'?"),
        (["objective.pace=2"], "unknown key 'objective.pace'. It belongs to objective=mine."),
        (["objective=mein"], "objective=mein: no such objective; there are .*, mine, .* Did you mean 'mine'?"),
        (["objective=mine", "objective.space=nope"], "objective: unknown space 'nope'"),
    ],
)
def test_fields_of_a_plugin_are_checked(line, message, installed):
    with pytest.raises(ConfigError, match=message):
        compose(line)


def test_an_entry_point_runs_in_both_phases(tmp_path):
    sizes = "iterations=2 phase2.start=1 prompts_per_iteration=2 responses_per_prompt=2 sampling.max_new_tokens=16"
    line = f"objective=mine +phase2=mine objective.keep=negative validation.every=0 {sizes}"
    done = train(*line.split(), f"run_dir={tmp_path}/run", PYTHONPATH=str(SITE))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["objective"]) for line in lines] == [(1, "mine"), (2, "mine")]


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_module_in_the_current_folder_is_found_however_a_command_is_called(name, tmp_path):
    """As by dsrl-NAME, whose own folder is the first on the path, and by `python /path/of/train.py`."""
    scripts, here = tmp_path / "bin", tmp_path / "here"
    for folder in (scripts, here):
        folder.mkdir()
    (scripts / f"dsrl-{name}").write_text(f"from dsrl.{name} import main\nmain()\n")
    (here / "digits.py").write_text(DIGITS)
    (here / "numbers.py").write_text("raise SystemExit('a file here took the place of a module of Python')")
    commands = [[scripts / f"dsrl-{name}"], *([[ROOT / "train.py"]] if name == "train" else [])]
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command, "verifier=digits", "--cfg", "job"],
            cwd=here,
            env=os.environ | {"DSRL_PLUGINS": "digits", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert "name: digits" in done.stdout, done.stderr


def test_a_callback_in_the_current_folder_is_found(tmp_path):
    (tmp_path / "my_callbacks.py").write_text(CALLBACK)
    sizes = "iterations=1 prompts_per_iteration=2 responses_per_prompt=2 sampling.max_new_tokens=8 validation.every=0"
    words = [*sizes.split(), "+callbacks.mine._target_=my_callbacks.Says", "run_dir=run"]
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert "the callback was here" in done.stdout, done.stderr


def test_a_module_of_dsrl_plugins_is_listed_by_help(installed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(SITE)])
    shutil.copytree(SITE / "mine_plugin", tmp_path / "mine_plugin")  # without its entry point
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    assert "mine" not in objectives_of_help(capsys)
    monkeypatch.setenv("DSRL_PLUGINS", "mine_plugin")
    assert "mine" in objectives_of_help(capsys)


def objectives_of_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main()
    GlobalHydra.instance().clear()
    assert not ended.value.code
    listed = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("objective, phase2"))
    return listed.replace(",", "").split()
