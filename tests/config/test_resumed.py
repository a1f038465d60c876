"""`resume=last run_dir=RUN` alone: the rest of the line is what the run was made with."""

import pytest
from omegaconf import OmegaConf

from dsrl.config.compose import check_command_line, compose
from dsrl.errors import ConfigError
from dsrl.runs.resume import differences

TWO = ["objective=nsr_prerl", "objective.coefficient=0.02", "+phase2=grpo", "phase2.start=3", "iterations=9", "seed=7"]


def saved(folder, *words):
    """Save the configuration of a line as a run does, and return it."""
    config = compose([*words, f"run_dir={folder}"]).resolved
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    return config


def changed(folder, before, *words):
    """What a resumed line has that the run had not, by key."""
    after = compose([*words, "resume=last", f"run_dir={folder}"]).resolved
    return {key: now for key, _, now in differences(before, after) if key != "resume"}


LINES = {
    "two phases": TWO,
    "parts of an objective": ["+phase2=grpo", "phase2.objective.surrogate=gspo", "objective.advantage=rloo"],
    "a condition": ["+phase2=grpo", "phase2.start={name: drop, by: 0.2}", "phase2.sampling.temperature=0.7"],
    "three phases": ["+phase2=grpo", "phase2.start=2", "+phase3=rloo", "phase3.start=4", "iterations=9"],
    "data of one's own": ["data=questions", "data.train=x.jsonl", "verifier=numeric", "verifier.abs_tol=0.5"],
    "another model": ["model=retry", "optimizer.lr=3e-6", "model.lora.rank=4", "model.lora.target_modules=[q_proj]"],
    "no logger": ["logger=none"],
    "a logger of one's own": ["logger=none", "+logger.mine._target_=a.b.C", "+logger.mine.words='x, {y}: [z]'"],
    "callbacks": ["+callbacks.mine._target_=a.b.C"],
    "monitors": ["monitors.truncation.action=off", "+monitors.mine={name: truncation, action: stop}"],
    "a probe": ["+probe=alignment", "probe.every=7"],
    "an experiment": ["experiment=two_nodes", "data.train=x.parquet", "sampling.temperature=0.8"],
    "texts": ["data=parquet", "data.train=x.parquet", r"data.system_prompt='Put it in \\boxed{}, it\'s $5: \"a\"'"],
    "thoughts": ["thoughts={name: pattern, classes: {again: 'wait|but'}}"],
    "numbers": ["optimizer.lr=1e-07", "trainer.devices=2", "optimizer.betas=[0.8,0.99]"],
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_the_rest_is_in_the_folder(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.parquet").touch()
    (tmp_path / "x.jsonl").touch()
    before = saved(tmp_path / "run", *line)
    assert changed(tmp_path / "run", before) == {}
    assert changed(tmp_path / "run", before, *(word for word in line if word != "iterations=9")) == {}  # said again


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["iterations=12"], {"iterations": 12}),
        (["phase2.lr=1e-6"], {"phase2.lr": 1e-6}),
        (["trainer=fsdp"], {"trainer.strategy": "fsdp"}),
        (["objective=grpo", "objective.surrogate.clip_high=0.3", "phase2=nsr_prerl"], None),
        (["verifier=exact", "sampler=hf", "seed=8"], {"seed": 8}),
    ],
)
def test_what_the_line_says_wins(words, expected, tmp_path):
    before = saved(tmp_path / "run", *TWO)
    found = changed(tmp_path / "run", before, *words)
    if expected is not None:
        assert found == expected
    else:  # another objective, and the phase keeps its settings
        assert (found["objective.name"], found["phase2.objective.name"]) == ("grpo", "nsr_prerl")
        assert not {"phase2.start", "phase2.lr"} & set(found)


def test_the_words_for_hydra_say_all_of_it(tmp_path):
    before = saved(tmp_path / "run", *TWO)
    words = check_command_line(["resume=last", f"run_dir={tmp_path}/run"])
    again = check_command_line(words)  # as each rank does with the words that it is started with
    for line in (words, again):
        assert [key for key, _, _ in differences(before, compose(line).resolved)] == ["resume"]


def test_a_folder_without_a_run_is_a_first_start(tmp_path):
    assert compose(["resume=last", f"run_dir={tmp_path}/new", "seed=5"]).seed == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resume=last"], "resume=last: of which run? give run_dir=FOLDER, too"),
        (
            ["resume=last", "run_dir=typo"],
            "resume=last: run_dir=typo holds no run; a line that is to start one there, too, says what to train",
        ),
        (["resume=a/b.ckpt"], "resume=a/b.ckpt: no such checkpoint; `last` is the newest in run_dir"),
        (["resume=c.ckpt", "phase2.lr=1"], "resume=c.ckpt: no such checkpoint; . has iteration3.ckpt"),
        (["resume=last", "run_dir=damaged"], "resume=last: damaged/config.yaml cannot be read (ScannerError)"),
    ],
)
def test_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iteration3.ckpt").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.yaml").write_text("a: 'b\nc: d: e")
    with pytest.raises(ConfigError) as refused:
        compose(words)
    assert str(refused.value) == message


def test_loggers_stay_with_their_folder(tmp_path):
    before = saved(tmp_path / "run", "seed=7")
    words = check_command_line(["resume=last", f"run_dir={tmp_path}/run"])
    assert before["logger"]["csv"]["save_dir"] == str(tmp_path / "run")
    assert not [word for word in words if word.startswith("++logger")]  # they follow run_dir by themselves
