import pytest
import torch
from by_hand import PROMPTS, plain_logits, subject_of

from dsrl.probes.by_prompt import estimated
from dsrl.probes.logits import TokenPairs, compare_hidden, compare_tokens, token_sums


def test_the_formula_by_hand():
    """p_c = (.5, .25, .25), p_m = (.2, .3, .5), y = 0: 1 - .5 - .2 + (.1 + .075 + .125) = .6."""
    hidden = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]], dtype=torch.float64).log() * 0.7
    values = compare_hidden(
        lambda part: part,
        hidden,
        predicting=torch.tensor([[0, 0], [1, 1]]),
        tokens=torch.tensor([[0, 0]]),
        mask=torch.tensor([[True, False]]),
        temperature=0.7,
    )
    expected = [[0.5**1, 0.2, 0.6, 1 - 2 * 0.5 + 0.375, 1 - 2 * 0.2 + 0.38], [0.0] * 5]
    assert torch.allclose(values[0, 0, :2].exp(), torch.tensor(expected[0][:2], dtype=torch.float64))
    assert values[0, 0, 2:].tolist() == pytest.approx(expected[0][2:])
    assert values[0, 1].tolist() == expected[1]
    assert float(TokenPairs(*values.unbind(-1)).cosine[0, 0]) == pytest.approx(0.6 / (0.375 * 0.98) ** 0.5)


@pytest.mark.parametrize("micro_batch_tokens", [100, 8192])
def test_tokens_are_those_of_plain_forwards(sampled, micro_batch_tokens):
    policy, batch = sampled
    pairs = compare_tokens(subject_of(policy, batch, micro_batch_tokens=micro_batch_tokens))
    with torch.no_grad():
        for row in range(0, len(batch.rollouts.texts), 5):
            given, response = plain_logits(policy, batch, row, "conditional")
            alone, _ = plain_logits(policy, batch, row, "marginal")
            one_hot = torch.nn.functional.one_hot(response, given.shape[-1])
            one, other = (one_hot - logits.softmax(-1) for logits in (given, alone))
            found = [own[row][batch.rollouts.mask[row]] for own in pairs]
            chosen = [logits.log_softmax(-1).gather(-1, response[:, None])[:, 0] for logits in (given, alone)]
            expected = [*chosen, (one * other).sum(-1), (one * one).sum(-1), (other * other).sum(-1)]
            for left, right in zip(found, expected, strict=True):
                assert torch.allclose(left, right, atol=1e-9)
    assert bool((pairs.inner[batch.rollouts.mask] >= 0).all())
    assert not any(bool(own[~batch.rollouts.mask].any()) for own in pairs)


def test_chunks_change_nothing(sampled, monkeypatch):
    policy, batch = sampled
    subject = subject_of(policy, batch)
    whole = compare_tokens(subject)
    monkeypatch.setattr("dsrl.probes.logits.CHUNK_BYTES", 4 * policy.model.config.vocab_size * 7)
    for one, other in zip(whole, compare_tokens(subject), strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_sums_and_bins_by_hand():
    """2 prompts of one response: p_c = .8, .95 and .05; p_m = .5, .4 and .05."""
    mask = torch.tensor([[True, True], [True, False]])
    given = torch.tensor([[0.8, 0.95], [0.05, 1.0]]).log()
    alone = torch.tensor([[0.5, 0.4], [0.05, 1.0]]).log()
    ones = torch.ones(2, 2)
    pairs = TokenPairs(given, alone, torch.tensor([[0.5, 0.2], [1.0, 9.0]]), ones, ones)
    sums = token_sums(pairs, mask, 2, share=0.5)
    assert sums["known"].tolist() == [[1.0, 2.0], [1.0, 1.0]]
    found = {name: own.value for name, own in estimated(sums).items()}
    assert found["logits/cosine"] == found["logits/inner"] == pytest.approx(1.7 / 3)
    assert found["known"] == pytest.approx(2 / 3)
    assert found["difference"] == pytest.approx(float((given - alone)[mask].mean()))
    bins = {name: value for name, value in found.items() if "cosine/" in name}
    assert bins == {
        "logits/cosine/p_c_0": pytest.approx(1.0),
        "logits/cosine/p_c_0.5": pytest.approx(0.5),
        "logits/cosine/p_c_0.9": pytest.approx(0.2),
        "logits/cosine/p_m_0": pytest.approx(1.0),
        "logits/cosine/p_m_0.1": pytest.approx(0.2),
        "logits/cosine/p_m_0.5": pytest.approx(0.5),
        "logits/cosine/position_0": pytest.approx(0.75),
        "logits/cosine/position_1": pytest.approx(0.2),
    }


def test_every_prompt_has_its_sums(sampled):
    policy, batch = sampled
    sums = token_sums(compare_tokens(subject_of(policy, batch)), batch.rollouts.mask, PROMPTS, 0.5)
    assert {own.shape for own in sums.values()} == {(PROMPTS, 2)}
    assert float(sums["known"][:, 1].sum()) == float(batch.rollouts.mask.sum())
