"""A data source without a run: what docs/your_data.md shows."""

import re
from pathlib import Path

from dsrl.data import PromptEncoder, Questions, Row, prompt_of, prompts_of
from dsrl.models import load_tokenizer

PAGE = (Path(__file__).parents[2] / "docs" / "your_data.md").read_text()
ROWS = '{"question": "1234+4321=", "answer": "5555", "level": 3}\n{"question": "1111+2222=", "answer": "3333"}\n'


def test_rows_of_a_file_in_three_lines(tmp_path, monkeypatch, capsys):
    (snippet,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "Questions(" in code)
    assert sum(1 for line in snippet.splitlines() if line.strip()) == 3
    monkeypatch.chdir(tmp_path)
    Path("sums.jsonl").write_text(ROWS)
    scope: dict = {}
    exec(snippet, scope)
    assert [type(row) for row in scope["rows"]] == [Row, Row]
    assert capsys.readouterr().out == "1234+4321= 5555\n"


def test_prompts_keep_what_a_row_holds(tmp_path):
    (tmp_path / "sums.jsonl").write_text(ROWS)
    rows = Questions(train=str(tmp_path / "sums.jsonl")).train_rows()
    encoder = PromptEncoder(tokenizer=load_tokenizer("tiny"))
    prompt = prompt_of(rows[0], encoder, index=7, position=3)
    assert (prompt.row, prompt.position, prompt.text, prompt.ground_truth) == (7, 3, "1234+4321=", "5555")
    assert prompt.token_ids == encoder.encode("1234+4321=")
    assert (prompt.data_source, prompt.extra) == ("sums", {"level": 3})
    assert [(each.position, each.ground_truth) for each in prompts_of(rows, encoder)] == [(0, "5555"), (1, "3333")]
    assert [(each.text, each.ground_truth) for each in prompts_of(["1+1="], encoder)] == [("1+1=", "")]
