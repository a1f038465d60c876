"""A run that fails loses nothing that was finished, and says from where it goes on."""

import json
import shutil
from dataclasses import dataclass

import lightning as L
import pytest
from checkpoint_contents import apart, contents
from lightning.pytorch.trainer.connectors.logger_connector import _LoggerConnector

from dsrl.config.compose import compose
from dsrl.loop.module import DSRLModule
from dsrl.registry import register
from dsrl.runs.fit import fit as run
from dsrl.storage.disk_errors import UnwritableError

LINE = (
    "iterations=5",
    "verifier=odd_test",
    "objective=grpo",
    "+phase2=nsr_prerl",
    "phase2.start=3",
    "update.minibatches=2",
    "prompts_per_iteration=3",
    "responses_per_prompt=3",
    "sampling.max_new_tokens=6",
    "sampling.temperature=3",
    "validation.every=2",
    "validation.k=2",
    "data.train_size=20",
    "data.val_size=3",
    "curriculum.always_wrong=0.5",
    "curriculum.always_right=0.5",
    "logger=none",
    "logged_samples=1",
    "report=false",
)


@register("verifier", "odd_test")
@dataclass
class Odd:
    """Rewards responses whose tokens have an odd sum."""

    def score(self, rollouts):
        sums = (rollouts.tokens * rollouts.mask).sum(-1)
        return (sums % 2).float().view(-1, rollouts.responses_per_prompt)


class Counts(L.Callback):
    """A callback of one's own with a state, which changes at every hook."""

    def __init__(self):
        self.seen = {"hooks": []}

    def on_train_epoch_start(self, trainer, module):
        self.seen["hooks"].append(trainer.current_epoch)

    def state_dict(self):
        return self.seen

    def load_state_dict(self, state):
        self.seen = state


class Fails(L.Callback):
    """Fails at a hook of an iteration."""

    def __init__(self, hook, iteration, error=ZeroDivisionError):
        self.iteration, self.error = iteration, error
        setattr(self, hook, self._at)

    def _at(self, trainer, *rest):
        if trainer.current_epoch == self.iteration and not trainer.sanity_checking:
            raise self.error


def lines(folder, name="metrics.jsonl"):
    """Without times."""
    found = map(json.loads, (folder / name).read_text().splitlines())
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "throughput/", "sync/s"))} for line in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    words = ("checkpoint.every=1", "checkpoint.keep=9", f"run_dir={folder}")
    run(compose([*LINE, *words]), callbacks=[Counts()])
    return folder


def patched(method, iteration, calls=1):
    """Make a method of the module fail in an iteration, when it is called as often."""
    own, count = getattr(DSRLModule, method), [0]

    def fails(self, *arguments, **rest):
        count[0] += self.trainer.current_epoch == iteration
        if count[0] == calls:
            raise ZeroDivisionError
        return own(self, *arguments, **rest)

    return fails


def refuses(iteration):
    """Make loggers fail with the numbers of an iteration, which they get at its end."""

    def log_metrics(self, metrics, step=None):
        if "reward/mean" in metrics and self.trainer.current_epoch == iteration:
            raise ConnectionError

    return log_metrics


@pytest.mark.parametrize(
    ("hook", "iteration", "saved"),
    [
        ("on_train_batch_start", 2, 1),
        ("probe", 2, 1),
        ("on_train_batch_end", 2, 2),
        ("on_validation_end", 1, 1),
        ("on_train_epoch_end", 1, 1),
        ("on_train_epoch_end", 2, 2),
        ("loggers", 1, 1),
    ],
)
def test_the_file_is_the_one_of_a_run_that_saves_every_iteration(hook, iteration, saved, whole, tmp_path, monkeypatch):
    config = compose([*LINE, "checkpoint.every=0", f"run_dir={tmp_path}/run"])
    own = [Fails(hook, iteration)] if hook.startswith("on_") else []
    if hook == "probe":
        monkeypatch.setattr(DSRLModule, hook, patched(hook, iteration))
    if hook == "loggers":
        monkeypatch.setattr(_LoggerConnector, "log_metrics", refuses(iteration))
    with pytest.raises((ZeroDivisionError, ConnectionError)) as failure:
        run(config, callbacks=[Counts(), *own])
    assert failure.value.__notes__[-1].startswith(f"saved after {saved + 1} of 5 iterations: `")
    name = f"iteration{saved}.ckpt"
    found, expected = (contents(folder / "checkpoints" / name) for folder in (tmp_path / "run", whole))
    assert [*apart(found, expected)] == []
    monkeypatch.undo()
    run(compose([*LINE, "checkpoint.every=0", f"run_dir={tmp_path}/run", "resume=last"]), callbacks=[Counts()])
    assert lines(tmp_path / "run") == lines(whole)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_batch_end"])
def test_a_validation_that_fails_is_made_when_the_run_goes_on(hook, whole, tmp_path):
    words = [*LINE, "checkpoint.every=0", f"run_dir={tmp_path}/run"]
    with pytest.raises(ZeroDivisionError) as failure:
        run(compose(words), callbacks=[Counts(), Fails(hook, 1)])
    assert failure.value.__notes__[-1].endswith("goes on, and begins with the validation after iteration 1")
    run(compose([*words, "resume=last"]), callbacks=[Counts()])
    for name in ("metrics.jsonl", "samples.jsonl", "validations.jsonl"):
        assert lines(tmp_path / "run", name) == lines(whole, name)
    found, expected = (contents(folder / "checkpoints" / "iteration4.ckpt") for folder in (tmp_path / "run", whole))
    assert [*apart(found, expected)] == []


def test_a_sampler_that_takes_no_weights_loses_no_iteration(whole, tmp_path, monkeypatch):
    words = [*LINE, "checkpoint.every=0", f"run_dir={tmp_path}/run"]
    config, synced = compose(words), [0]
    sync = type(config.sampler).sync

    def fails(self, tensors):
        synced[0] += 1
        if synced[0] == 4:  # the first was before any update
            raise ConnectionError
        return sync(self, tensors)

    with monkeypatch.context() as patch, pytest.raises(ConnectionError) as failure:
        patch.setattr(type(config.sampler), "sync", fails)
        run(config, callbacks=[Counts()])
    assert "saved after 3 of 5 iterations" in failure.value.__notes__[-1]
    assert "goes on; what is measured after the update of iteration 2 is left out" in failure.value.__notes__[-1]
    run(compose([*words, "resume=last"]), callbacks=[Counts()])
    found, expected = lines(tmp_path / "run"), lines(whole)
    assert found[:4] + found[5:] == expected[:4] + expected[5:]
    assert found[4].items() <= expected[4].items()


def test_in_the_midst_of_an_update_nothing_is_saved_and_what_runs_again_is_said(tmp_path, monkeypatch):
    words = [*LINE, "checkpoint.every=0", f"run_dir={tmp_path}/run"]
    monkeypatch.setattr(DSRLModule, "update_policy", patched("update_policy", 4, calls=2))
    with pytest.raises(ZeroDivisionError) as failure:
        run(compose(words))
    said = "goes on from handoff-phase2-iteration3.ckpt, and runs iterations 3 to 4 again"
    assert failure.value.__notes__[-1].endswith(said)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["handoff-phase2-iteration3.ckpt"]


def test_before_any_iteration_is_finished_nothing_is_lost_and_nothing_said(tmp_path):
    words = [*LINE, "checkpoint.every=0", f"run_dir={tmp_path}/run"]
    with pytest.raises(ZeroDivisionError) as failure:
        run(compose(words), callbacks=[Fails("on_train_batch_start", 0)])
    assert failure.value.__notes__ == ["in phase 1, iteration 0"]


def test_a_second_ctrl_c_saves_and_says_so(tmp_path, capsys):
    words = [*LINE, "validation.every=0", "checkpoint.every=0", f"run_dir={tmp_path}/run"]
    with pytest.raises(SystemExit):  # Lightning's
        run(compose(words), callbacks=[Fails("on_train_batch_start", 1, KeyboardInterrupt)])
    assert "interrupted; saved after 1 of 5 iterations: `fit(compose(" in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_written_hides_no_error(tmp_path, monkeypatch):
    words = [*LINE, "validation.every=0", "checkpoint.every=0", f"run_dir={tmp_path}/run"]

    def is_full(checkpoint, path):
        raise UnwritableError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr("dsrl.parallel.strategy.write_file", is_full)
    with pytest.raises(ZeroDivisionError) as failure:
        run(compose(words), callbacks=[Fails("on_train_batch_start", 1)])
    assert failure.value.__notes__[-1] == (
        f"no checkpoint could be saved after this failure: {tmp_path}/run/checkpoints/iteration0.ckpt: cannot be "
        "written: No space left on device"
    )


def test_a_run_that_says_where_it_is_resumed(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "iteration4.ckpt").unlink()
    run(compose([*LINE, f"run_dir={tmp_path}/run", "resume=last"]), callbacks=[Counts()])
    said = capsys.readouterr().out
    path = tmp_path / "run" / "checkpoints" / "iteration3.ckpt"
    assert f"resumed from {path}: going on at iteration 4 of 5 in phase 2 (nsr_prerl)\n" in said
    assert "phase 1: grpo began with iteration 0\n" in said
    assert "phase 2: nsr_prerl from iteration 3, lr" in said
