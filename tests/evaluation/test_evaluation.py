"""An evaluation as a whole, on the embedded model: its numbers, and that a kill changes none of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dsrl.errors import ConfigError
from dsrl.evaluation import EvaluationConfig, evaluate
from dsrl.evaluation.samples import SampleFile, read_samples
from dsrl.models.loading import EMBEDDED
from dsrl.samplers.hf import HFSampler

ROOT = Path(__file__).parents[2]
SMALL = ("k=3", "limit=6", "questions_per_batch=2", "sampling.max_new_tokens=48")


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def without_paths(results):
    return results | {"config": {key: value for key, value in results["config"].items() if key != "run_dir"}}


def test_all_samples_are_on_disk_and_the_numbers_are_theirs(evaluated):
    folder, results, printed = evaluated(*SMALL)
    samples = read_samples(folder)
    assert [(line["question"], line["sample"]) for line in samples] == [(q, g) for q in range(6) for g in range(3)]
    rewards = [line["reward"] for line in samples]
    assert all(line["reward"] == float(line["extracted_answer"] == line["ground_truth"]) for line in samples)
    numbers = results["results"]["arithmetic"]
    assert (numbers["questions"], numbers["samples"], numbers["k"]) == (6, 18, 3)
    assert numbers["avg@3"] == pytest.approx(sum(rewards) / 18) and 0 < sum(rewards) < 18
    solved = [sum(rewards[3 * q : 3 * q + 3]) for q in range(6)]
    assert numbers["pass@3"] == pytest.approx(sum(count > 0 for count in solved) / 6)
    assert numbers["right"] == [solved.count(count) for count in range(4)]
    assert numbers["length"] == pytest.approx(sum(line["length"] for line in samples) / 18)
    low, high = numbers["avg@3_ci95"]
    assert low < numbers["avg@3"] < high and numbers["avg@3_stderr"] > 0
    assert f"arithmetic: avg@3 {numbers['avg@3']:.3f} ±" in printed and results["sources"] == {}


def test_an_end_that_the_tokenizer_appends_changes_nothing(evaluated, tmp_path, caplog):
    """The same questions, draws and weights: a prompt that ends with EOS would have other answers."""
    path = write(tmp_path / "sums.jsonl", {"question": "1234+4321=", "answer": "5555"})
    plain, ending = (shutil.copytree(EMBEDDED["tiny"], tmp_path / name) for name in ("plain", "ending"))
    tokenizer = json.loads((ending / "tokenizer.json").read_text())
    tokenizer["post_processor"]["single"].append({"SpecialToken": {"id": "<eos>", "type_id": 0}})
    tokenizer["post_processor"]["special_tokens"]["<eos>"] = {"id": "<eos>", "ids": [2], "tokens": ["<eos>"]}
    (ending / "tokenizer.json").write_text(json.dumps(tokenizer))
    asks = ("k=2", "sampling.max_new_tokens=8", f"data.val={path}", "verifier=exact")
    folders = [evaluated(f"model={model}", *asks, folder=f"of_{model.name}")[0] for model in (plain, ending)]
    assert read_samples(folders[0]) == read_samples(folders[1])
    assert "data.val sums: the tokenizer ends every text with <eos>; prompts are asked without it" in caplog.text


KILLED_IN_THE_THIRD_BATCH = """
import os, signal
from dsrl.evaluate import main
from dsrl.evaluation.samples import SampleFile
append, written = SampleFile.append, []

def dies(file, samples):
    written.append(list(samples))
    if len(written) < 3:
        return append(file, written[-1])
    append(file, written[-1][:5])
    with file.path.open("ab") as torn:
        torn.write(b'{"set": "arith')
    os.kill(os.getpid(), signal.SIGKILL)

SampleFile.append = dies
main()
"""


def test_killed_and_resumed(evaluated, tmp_path, monkeypatch):
    """The same bytes as an evaluation that nobody killed, and no sample drawn that was on disk."""
    many = ("k=4", "limit=24", "questions_per_batch=2")
    whole, expected, _ = evaluated(*many, folder="whole")
    folder = tmp_path / "killed"
    path = folder / "samples.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_THIRD_BATCH, *many, f"run_dir={folder}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    on_disk = path.read_bytes().count(b"\n")
    assert done.returncode == -signal.SIGKILL
    assert on_disk == 2 * 8 + 5 and not (folder / "results.json").exists()

    drawn = []
    sample = HFSampler.sample

    def counted(sampler, prompts, params):
        drawn.append(prompts)
        return sample(sampler, prompts, params)

    monkeypatch.setattr(HFSampler, "sample", counted)
    _, results, printed = evaluated(f"resume={folder}")
    assert sum(map(len, drawn)) == 24 - on_disk // 8 * 2
    assert f"going on: {on_disk // 8 * 2} questions are answered already" in printed
    assert path.read_bytes() == (whole / "samples.jsonl").read_bytes()
    assert without_paths(results) == without_paths(expected)

    drawn.clear()
    _, again, _ = evaluated(f"resume={folder}", *many)
    assert drawn == [] and again == results


def test_resuming_with_another_configuration_is_refused(evaluated, tmp_path):
    folder, _, _ = evaluated(*SMALL)
    with pytest.raises(ConfigError) as refused:
        evaluated(f"resume={folder}", *SMALL, "k=4", "sampling.temperature=0.5")
    lines = str(refused.value).splitlines()
    assert "was begun with another configuration" in lines[0]
    assert set(lines[1:]) == {"k: 3 in the evaluation, 4 now", "sampling.temperature: 1.0 in the evaluation, 0.5 now"}
    with pytest.raises(ConfigError, match="is in use; choose another, or go on with the evaluation there by resume="):
        evaluated(*SMALL)
    with pytest.raises(ConfigError, match="no evaluation there"):
        evaluated(f"resume={tmp_path}/nothing")


def test_several_sets_and_sources(evaluated, tmp_path):
    rows = [{"prompt": f"10{i}+200=", "answer": f"{300 + i}", "data_source": "ab"[i % 2]} for i in range(4)]
    path = write(tmp_path / "sums.jsonl", *rows)
    _, results, printed = evaluated(*SMALL, f"data.val=[{path},arithmetic]", "verifier=exact")
    assert {name: numbers["questions"] for name, numbers in results["results"].items()} == {"sums": 4, "arithmetic": 6}
    assert {name: own["questions"] for name, own in results["sources"].items()} == {"a": 2, "b": 2, "arithmetic": 6}
    assert "by data source" in printed


def test_a_file_that_repeats_each_row_asks_once_with_as_many_answers(evaluated, tmp_path):
    rows = [{"prompt": f"10{i}+200=", "answer": f"{300 + i}"} for i in range(2)] * 5
    path = write(tmp_path / "sums.jsonl", *rows)
    _, results, _ = evaluated(f"data.val={path}", "verifier=exact", "sampling.max_new_tokens=8")
    assert (results["results"]["sums"]["questions"], results["results"]["sums"]["k"]) == (2, 5)


def test_greedy_answers_are_all_the_same(evaluated):
    folder, results, _ = evaluated(*SMALL, "sampling.temperature=0")
    assert all(len({line["response"] for line in read_samples(folder)[3 * q : 3 * q + 3]}) == 1 for q in range(6))
    assert results["results"]["arithmetic"]["right"][1:3] == [0, 0]


def sums(path, *numbers, **fields):
    return write(path, *({"prompt": f"10{i}+200=", "answer": f"{300 + i}", **fields} for i in numbers))


def test_a_second_one_in_the_same_folder_changes_nothing_there(evaluated, tmp_path):
    folder = tmp_path / "evaluation"
    with SampleFile(folder / "samples.jsonl"):
        with pytest.raises(ConfigError, match="another process is writing it"):
            evaluated(*SMALL)
        assert not (folder / "config.yaml").exists()


def test_one_that_began_and_ended_since_the_configuration_was_checked(evaluated, tmp_path):
    config = EvaluationConfig.of([*SMALL, f"run_dir={tmp_path}/evaluation", "k=2"])
    folder, _, _ = evaluated(*SMALL)
    before = (folder / "samples.jsonl").read_bytes(), (folder / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="is in use; choose another"):
        evaluate(config, Console(quiet=True))
    assert before == ((folder / "samples.jsonl").read_bytes(), (folder / "config.yaml").read_bytes())


def test_what_fails_before_the_first_samples_can_be_tried_again(evaluated):
    with pytest.raises(ConfigError, match="which a prompt shares"):
        evaluated(*SMALL, "sampling.max_new_tokens=100000")
    _, results, _ = evaluated(*SMALL)
    assert results["results"]["arithmetic"]["questions"] == 6


def test_samples_of_other_data_are_not_gone_on_with(evaluated, tmp_path):
    path = tmp_path / "sums.jsonl"
    folder, _, _ = evaluated(*SMALL, f"data.val={sums(path, 1, 2, 3)}", "verifier=exact")
    before = (folder / "samples.jsonl").read_bytes()
    for numbers in ((1, 3, 2), (1, 2)):
        sums(path, *numbers)
        with pytest.raises(ConfigError, match="another question than is asked now: the data has changed since"):
            evaluated(f"resume={folder}")
        assert (folder / "samples.jsonl").read_bytes() == before


def test_another_verifier_for_each_source(evaluated, tmp_path):
    """Answers are read by the verifier of their row, and a source's component is over its own questions alone, however
    questions are drawn together.
    """
    files = [sums(tmp_path / f"{name}.jsonl", *numbers) for name, numbers in (("a", (1, 2)), ("b", (3, 4)))]
    words = {"name": "exact", "marker": "+"}
    verifier = ("verifier=by_source", f"verifier.sources={{a: exact, b: {json.dumps(words)}}}".replace('"', ""))
    kept = {}
    for size in (1, 4):
        line = (*SMALL, f"questions_per_batch={size}", f"data.val=[{','.join(files)}]", *verifier)
        folder, results, _ = evaluated(*line, folder=f"by{size}")
        text = (folder / "samples.jsonl").read_text() + (folder / "results.json").read_text()
        assert "NaN" not in text
        samples = read_samples(folder)
        for line in samples:
            marker = "#" if line["set"] == "a" else "+"
            assert line["extracted_answer"] == line["response"].rpartition(marker)[2].strip()
            assert line["components"] == {line["set"]: line["reward"]}
        kept[size] = [sorted(line) for line in samples], [[*line["components"]] for line in samples]
        for name, numbers in results["results"].items():
            assert numbers[f"reward/{name}"] == numbers["avg@3"] and ("reward/a" in numbers) == (name == "a")
    assert kept[1] == kept[4]


def test_a_name_is_no_markup(evaluated, tmp_path):
    path = sums(tmp_path / "set[v2].jsonl", 1, 2, data_source="[/b]")
    _, results, printed = evaluated(*SMALL, f"data.val='{path}'", "verifier=exact")
    assert {*results["results"], *results["sources"]} == {"set[v2]", "[/b]"}
    assert "set[v2] (2 questions)" in printed and "set[v2]: avg@3" in printed and "[/b]" in printed


def test_a_source_of_two_sets_with_different_numbers_of_answers(evaluated, tmp_path):
    files = [
        sums(tmp_path / f"{name}.jsonl", *numbers, data_source="s")
        for name, numbers in (("a", (1, 2) * 2), ("b", (3, 4) * 3))
    ]
    line = (f"data.val=[{','.join(files)}]", "verifier=exact", "sampling.max_new_tokens=8")
    _, results, _ = evaluated(*line)
    found = {name: (own["k"], own["samples"], len(own["right"])) for name, own in results["sources"].items()}
    assert found == {"s (k=2)": (2, 4, 3), "s (k=3)": (3, 6, 4)}


def test_one_question_has_no_interval(evaluated):
    _, results, printed = evaluated(*SMALL, "limit=1")
    assert not [name for name in results["results"]["arithmetic"] if name.endswith(("_ci95", "_stderr"))]
    assert "avg@3 " in printed and "nan" not in printed and "avg@3 0.000 ±" not in printed
