"""Words of reflection and transition, in English and Chinese."""

from collections import Counter

import pytest

from dsrl.errors import ConfigError
from dsrl.thoughts import Words


def counted(text, **settings):
    found = Counter(thought.class_name for thought in Words(**settings).split(text))
    return found["reflection"], found["transition"]


@pytest.mark.parametrize(
    ("text", "reflection", "transition"),
    [
        ("Wait, wait. Hold on! Hmm...", 4, 0),
        ("Let me double-check that. Let's verify it, and let us reconsider.", 3, 0),
        ("I will recheck this and rethink that.", 2, 0),
        ("Let me think about this again.", 1, 0),
        ("On second thought, I made a mistake. Is that right?", 3, 0),
        ("Alternatively, try another way, or a different approach.", 0, 3),
        ("Let me try something else. Start over.", 0, 2),
        ("The waiter said the alternative is away; he has a way with words.", 0, 0),
        ("Let me compute 3 + 4 = 7, then recompute it and re-read the question.", 2, 0),
        ("等等，让我再检查一下。不对，算错了。", 4, 0),
        ("我们重新计算一遍，再想想。", 2, 0),
        ("换一种方法：另一个思路，其他方式。", 0, 3),
        ("或者，先求和。\n或者，先求积；甲或者乙。", 0, 2),
        ("等于三，方法很好。", 0, 0),
        ("", 0, 0),
    ],
)
def test_words_of_both_languages(text, reflection, transition):
    assert counted(text) == (reflection, transition)


def test_a_language_alone():
    text = "Wait, 等等. Alternatively, 换一种方法."
    assert counted(text, languages=["en"]) == (1, 1) == counted(text, languages=["zh"])
    assert counted(text) == (2, 2)
    with pytest.raises(ConfigError, match="there are words of en, zh, not of de"):
        Words(languages=["de"])
    with pytest.raises(ConfigError, match="give at least one of en, zh"):
        Words(languages=[])


def test_they_are_in_order_and_apart():
    text = "Alternatively, wait: let me try again and think again."
    found = Words().split(text)
    assert [text[start:end] for start, end, _ in found] == ["Alternatively", "wait", "let me try again", "think again"]
