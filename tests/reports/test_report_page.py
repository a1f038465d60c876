"""The page: one file, nothing of a run in it as markup, small enough, and the command that writes it."""

import json
import re
from html.parser import HTMLParser

import pytest
from run_folders import iteration, run_folder, sample, warning, with_tokens, write_lines

from dsrl.report import main
from dsrl.reports.page import embedded, read_runs, render

HOSTILE = [
    "</script><script>document.title='executed'</script>",
    "<!--<script>",
    "<img src=x onerror=\"document.title='executed'\">",
    "@SCRIPT@ @DATA@",
    "\u202eright to left\u202c \x00\x1b[31m\x07 \u2028",
    "שלום עולם مرحبا",
    "]]>&lt;&amp;",
]


class Outline(HTMLParser):
    """Elements of a page, and the texts of its scripts."""

    def __init__(self):
        super().__init__()
        self.elements, self.attributes, self.scripts, self.inside = [], [], [], False

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        self.inside = tag == "script"
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


def outline_of(page):
    outline = Outline()
    outline.feed(page.decode())
    return outline


def data_of(page):
    return json.loads(outline_of(page).scripts[0])


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_a_run_are_data_and_never_markup(tmp_path, text):
    folder = run_folder(tmp_path / "run", note=text)
    lines = [sample(0, text, prompt=text, extracted_answer=text, components={text: 1.0}, finish_reason=text)]
    write_lines(folder / "samples.jsonl", [with_tokens(line) for line in lines])
    write_lines(folder / "metrics.jsonl", [iteration(0, 0.5, objective=text) | {f"{text}/mean": 1.0}])
    write_lines(folder / "starts.jsonl", [{"command": text}])
    page = render(read_runs([folder]))
    plain = render(read_runs([run_folder(tmp_path / "plain")]))
    assert outline_of(page).elements == outline_of(plain).elements
    data = data_of(page)
    assert data["samples"]["rows"][0][7] == text
    assert "".join(data["samples"]["tokens"][0]["texts"]) == text
    assert ["Command", text] in data["runs"][0]["head"]


def test_half_a_surrogate_pair_is_written():
    assert json.loads(embedded({"text": "\ud800"}).encode("utf-8", "backslashreplace"))["text"] == "\ud800"


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    page = render(read_runs([run_folder(tmp_path / "run")]))
    outline = outline_of(page)
    links = [value for name, value in outline.attributes if name in ("src", "href")]
    assert links == ["data:,", "#main"]
    policy = dict(outline.attributes)["content"]
    assert any("default-src 'none'" in (value or "") for name, value in outline.attributes if name == "content"), policy
    assert not re.search(
        r"\b(fetch|XMLHttpRequest|import|eval|innerHTML|outerHTML|insertAdjacentHTML)\b", outline.scripts[1]
    )


@pytest.mark.slow
def test_a_long_run_with_many_samples_stays_below_ten_megabytes(tmp_path):
    folder = run_folder(tmp_path / "run", iterations=2000)
    metrics = {f"group{number}/metric": 0.123456789 for number in range(50)}
    write_lines(folder / "metrics.jsonl", [iteration(at, 0.5, **metrics) for at in range(2000)])
    line = with_tokens(sample(0, "1+2=3;" * 10))
    write_lines(
        folder / "samples.jsonl",
        [
            line | {"iteration": at, "prompt": f"question {at}", "response_number": n}
            for at in range(2000)
            for n in range(25)
        ],
    )
    page = render(read_runs([folder]))
    assert len(page) < 10_000_000
    notes = " ".join(data_of(page)["notes"])
    assert "large, so that every" in data_of(page)["runs"][0]["notes"][0]
    assert "of 50,000 responses are on this page" in notes


def test_an_empty_folder_and_a_page_of_many_runs_are_rendered(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").write_text("")
    folders = [tmp_path / "empty", *(run_folder(tmp_path / name, seed=at) for at, name in enumerate("abc"))]
    data = data_of(render(read_runs(folders)))
    assert [run["name"] for run in data["runs"]] == ["empty", "a", "b", "c"]
    assert [group["runs"] for group in data["groups"]] == [[0], [1, 2, 3]]


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [run_folder(tmp_path / parent / "run") for parent in "ab"]
    assert [run.name for run in read_runs(folders)] == ["a/run", "b/run"]


def test_the_command_writes_the_file_where_it_is_told(tmp_path, capsys):
    folder = run_folder(tmp_path / "run")
    main([str(folder)])
    assert (folder / "report.html").stat().st_size > 20_000
    main([str(folder), f"out={tmp_path / 'new' / 'two.html'}"])
    assert (tmp_path / "new" / "two.html").is_file()
    assert "two.html: 1 runs, 0." in capsys.readouterr().out


def test_the_command_prints_a_report(tmp_path, capsys):
    folders = [run_folder(tmp_path / "a"), run_folder(tmp_path / "b", objective={"name": "grpo"}, phase2=None)]
    write_lines(folders[0] / "warnings.jsonl", [warning(2, "reward", phase=1), warning(4, "signal", phase=2)])
    main([*map(str, folders), "--text"])
    printed = capsys.readouterr().out
    for number, at, monitor in ((1, 2, "reward"), (2, 4, "signal")):
        said = f"  iteration {at}, {monitor}: {monitor}: figure. Why \x1b[31m it matters. What to do."
        assert f"warnings in phase {number}\n{said}\n".replace("\x1b", "\ufffd") in printed, printed
    for text in ("handoff to grpo", "0.600 ± 0.", "time: sample 50%", "what differs", "reward, last 5 iterations"):
        assert text in printed, printed
    assert not (folders[0] / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none: no such folder"),
        (["run", "out="], "out=FILE: give one file"),
        (["out=x.html"], "no run: give the run_dir of a run"),
        (["run", "out=run"], "is a folder; give a file in it"),
    ],
)
def test_what_cannot_be_done_is_one_message(tmp_path, monkeypatch, capsys, words, message):
    run_folder(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
