"""What admits a world: counted by hand on answers that are given."""

import json

import pytest
import torch

from dsrl.models.loading import load_model, load_tokenizer
from dsrl.worlds import RetryWorld
from dsrl.worlds.admission import Admission, Answering, Share, answering, main
from dsrl.worlds.answers import Answers, draw_answers, known_share

FIRST = "2+4=1+8=4+3=2+1=3x"
RETRY = "4+4=3+8=1+3=4+1=0!"
BAD = "4+4=3+8=1+3=4+2=1x"


def answers_of(*texts: str) -> Answers:
    mask = torch.arange(60) < torch.tensor([len(text) + 1 for text in texts])[:, None]
    return Answers(
        questions=["4831="] * len(texts), ground_truths=["4"] * len(texts), texts=texts, tokens=mask.long(), mask=mask
    )


def test_answers_are_counted_by_their_retries() -> None:
    texts = [f"{RETRY}#4", f"{FIRST}#2", f"{FIRST}?{RETRY}#4", f"{FIRST}?{BAD}?{RETRY}#4"]
    found = answering(RetryWorld(), answers_of(*texts), 2.0)
    assert found.right == Share(count=4, share=0.75)
    assert found.right_by_retries[:3] == [
        Share(count=2, share=0.5),
        Share(count=1, share=1.0),
        Share(count=1, share=1.0),
    ]
    assert found.in_themselves[:2] == [Share(count=2, share=0.5), Share(count=1, share=1.0)]
    assert (found.right_by_retries[3].count, found.in_themselves[2].count) == (0, 0)
    assert (found.bias, found.retries) == (2.0, 0.75)
    assert found.tokens == sum(len(text) + 1 for text in texts) / 4


def made(right: float, retries: float, in_themselves: list[float], forced: float) -> Admission:
    share = [Share(count=100, share=value) for value in in_themselves]
    base, more = (
        Answering(
            bias=bias,
            right=Share(count=100, share=value),
            retries=retries,
            tokens=9.0,
            right_by_retries=[],
            in_themselves=share,
        )
        for bias, value in ((0.0, right), (4.0, forced))
    )
    return Admission(base=base, forced=[more], known=0.9, samples=[])


@pytest.mark.parametrize(
    ("found", "fails"),
    [
        (made(0.2, 0.15, [0.99, 0.98, 0.95], 0.5), []),
        (made(0.04, 0.15, [0.99], 0.5), ["right"]),
        (made(0.6, 0.15, [0.99], 0.9), ["right"]),
        (made(0.2, 0.6, [0.99], 0.5), ["retries an answer"]),
        (made(0.2, 0.15, [0.99, 0.94, 1.0], 0.5), ["forced retries right in themselves"]),
        (made(0.2, 0.15, [], 0.5), ["forced retries right in themselves"]),
        (made(0.2, 0.15, [0.99], 0.29), ["right by force, more"]),
    ],
)
def test_what_was_fixed_beforehand_decides(found: Admission, fails: list[str]) -> None:
    assert [criterion.name for criterion in found.criteria() if not criterion.holds] == fails
    assert found.admitted == (not fails)
    assert str(found).count("FAILS") == len(fails)


def test_a_bias_forces_the_mark_and_none_leaves_the_draws_alone() -> None:
    model, tokenizer = load_model("tiny"), load_tokenizer("tiny")
    problems = [("5037+9208=", "14245"), ("1111+2222=", "3333")] * 2
    plain, again, forced = (draw_answers(model, tokenizer, problems, 24, bias=bias) for bias in (0.0, 0.0, 100.0))
    assert plain.texts == again.texts
    assert forced.texts == ["?" * 24] * 4
    assert torch.equal(plain.mask.sum(-1), torch.tensor([min(24, len(text) + 1) for text in plain.texts]))


def test_all_is_known_where_the_question_tells_nothing() -> None:
    """Without a question the prompt of the embedded model is its start token: both probabilities are the same."""
    model, tokenizer = load_model("tiny"), load_tokenizer("tiny")
    assert known_share(model, tokenizer, draw_answers(model, tokenizer, [("", "1")] * 4, 24)) == 1.0
    told = known_share(model, tokenizer, draw_answers(model, tokenizer, [("5037+9208=", "14245")] * 8, 24))
    assert 0.5 < told < 0.95


def test_the_command_prints_what_scripts_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tiny", "--problems", "4", "--samples", "2", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == (0 if found["admitted"] else 1)
    assert {"criteria", "base", "forced", "known"} <= found.keys() and len(found["samples"]) == 2
    assert [each["bias"] for each in found["forced"]] == [2.0, 4.0]


def test_a_model_of_no_world_is_refused(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    assert ended.value.code == 2
    assert "holds no world.json" in capsys.readouterr().err
