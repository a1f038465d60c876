"""A sampler without a run: what docs/sampling.md shows."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "sampling.md").read_text()


def test_a_model_answers_questions_in_ten_lines(capsys):
    (snippet,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "HFSampler()" in code)
    assert sum(1 for line in snippet.splitlines() if line.strip()) <= 10
    scope: dict = {}
    exec(snippet, scope)
    rollouts = scope["rollouts"]
    assert [prompt.text for prompt in rollouts.prompts] == ["1234+4321=", "5037+9208="]
    assert rollouts.responses_per_prompt == 4 and len(rollouts.texts) == 8
    assert capsys.readouterr().out == "".join(f"{text}\n" for text in rollouts.texts)
    assert any(text.endswith("#5555") for text in rollouts.texts[:4])
    assert any(text.endswith("#14245") for text in rollouts.texts[4:])
