import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from dsrl.errors import ConfigError
from dsrl.worlds import ArithmeticWorld, RetryWorld, is_held_out
from dsrl.worlds.pretrain import main, stages_of
from dsrl.worlds.training import Recipe, Stage, pretrain
from dsrl.worlds.world_file import load_world

SHORT = [Stage(steps=2, lr=1e-3, retry_rate=0.7), Stage(steps=1, lr=1e-3, retry_rate=0.1)]


def recipe(stages: int, passes: int = 2) -> Recipe:
    return Recipe(stages=SHORT[:stages], batch_size=4, passes=passes)


@pytest.mark.parametrize(("world", "length"), [(ArithmeticWorld(), 10), (RetryWorld(digits=5, no_question=0.3), 6)])
def test_text_has_no_held_out_question_and_a_part_has_none(world, length: int) -> None:
    rng = random.Random(0)
    text = [world.write_line(rng, 0.3).removesuffix("<eos>") for _ in range(4000)]
    heads = [line[: line.index("=") + 1] for line in text]  # of a line without a question, part of its first step
    questions = [head for head in heads if len(head) == length]
    assert not any(map(is_held_out, questions))
    assert len(questions) / len(text) == pytest.approx(0.7, abs=0.03)  # 4 standard deviations


def test_the_same_arguments_give_the_same_bits_again() -> None:
    first, again, other = (pretrain(RetryWorld(), recipe(2), seed)[0] for seed in (0, 0, 1))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_every_stage_trains() -> None:
    one, two = (pretrain(RetryWorld(), recipe(stages))[0] for stages in (1, 2))
    assert not torch.equal(one.lm_head.weight, two.lm_head.weight)


def test_parts_of_a_batch_give_the_gradient_of_the_whole() -> None:
    one, two = (pretrain(RetryWorld(), recipe(1, passes))[0] for passes in (1, 2))
    torch.testing.assert_close(one.lm_head.weight, two.lm_head.weight, atol=1e-5, rtol=0)


def test_the_text_of_additions_gives_the_weights_that_it_always_gave() -> None:
    """What the embedded model `tiny` began with: the sum of its weights after three steps, from before worlds."""
    stages = [Stage(steps=3, lr=1e-3, retry_rate=0.3)]
    model, _ = pretrain(ArithmeticWorld(), Recipe(stages=stages, batch_size=8))
    assert float(sum(weight.detach().double().abs().sum() for weight in model.parameters())) == pytest.approx(
        8958.6206, abs=0.01
    )


def test_the_command_writes_a_model_its_world_and_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "easy"
    line = ["--guesses", "3", "--restated", "0.5", "--batch-size", "4", "--problems", "8"]
    line += ["--steps", "2", "1", "--lr", "2e-3", "5e-4", "--retry-rate", "0.7", "0.15"]
    main(["retry", str(out), *line])
    assert load_world(out) == RetryWorld(guesses=3, restated=0.5)
    assert json.loads((out / "world.json").read_text())["world"] == "retry"
    generation = AutoModelForCausalLM.from_pretrained(out, local_files_only=True).generation_config
    assert generation.max_new_tokens == RetryWorld(guesses=3, restated=0.5).max_new_tokens
    card, told = (out / "README.md").read_text(), capsys.readouterr().out
    assert card.startswith("# easy\n") and f"python -m dsrl.worlds.pretrain retry {out} --guesses 3" in card
    assert "| 2 | 0.002 | 70% |" in card and "| 1 | 0.0005 | 15% |" in card
    assert "tokens that P(y) can know" in card and "tokens that P(y) can know" in told
    assert f"model=retry model.name={out} model.max_new_tokens=92 data.digits=4 data.guesses=3\n" in told


def test_stages_have_one_value_of_each() -> None:
    assert stages_of([2, 1], [1e-3, 1e-3], [0.7, 0.1]) == SHORT
    with pytest.raises(ConfigError, match="--steps has 2 values, --lr 1, --retry-rate 2: give one of each"):
        stages_of([600, 150], [2e-3], [0.7, 0.15])


def test_values_that_make_no_sense_end_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["retry", str(tmp_path / "out"), "--guesses", "20"])
    assert ended.value.code == 2 and not (tmp_path / "out").exists()
    assert capsys.readouterr().err == "error: guesses=20: must be at most 10, since a guess is a digit\n"
