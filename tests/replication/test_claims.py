"""Findings from made-up runs whose answers are known."""

import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from dsrl.errors import ConfigError, DSRLError
from dsrl.replication import study as study_module
from dsrl.replication.arms import ARMS
from dsrl.replication.claims import Shown, alignment, nsr_beats_psr, sample_efficiency, thoughts
from dsrl.replication.judged import judge
from dsrl.replication.measured import Curve, answered_in_all, read_curve
from dsrl.replication.page import claims_page
from dsrl.replication.settings import settings_of
from dsrl.replication.study import Study, check_arms, run_job, tune

SEEDS, QUESTIONS = 3, 40


def curve(levels, *, thoughts=(1, 1, 1), phases=(), noise=0):
    """A run validated after 0, 5 and 10 iterations, whose questions lie a little around each level."""
    around = np.linspace(-0.04, 0.04, QUESTIONS) + 0.001 * noise
    return Curve(
        done=(0, 5, 10),
        accuracy=np.array([level + around for level in levels]),
        tokens=np.full((3, QUESTIONS), 100.0),
        thoughts={"reflection": np.array([np.full(QUESTIONS, float(count)) for count in thoughts])},
        k=4,
        responses=256,
        phases=phases,
        metrics=[],
    )


def arm(*levels, **rest):
    return [curve(levels, noise=seed - 1, **rest) for seed in range(SEEDS)]


CURVES = {
    "nsr_prerl": arm(0.3, 0.35, 0.2),
    "psr_prerl": arm(0.3, 0.4, 0.4),
    "grpo": arm(0.3, 0.5, 0.8, thoughts=(1, 1, 2)),
    "dsrl": arm(0.3, 0.6, 0.8, thoughts=(1, 4, 1), phases=(5,)),
    "dsrl_carried": arm(0.3, 0.6, 0.8, phases=(5,)),
    "grpo_entropy": arm(0.3, 0.5, 0.8),
}
ALIGNED = {
    moment: [
        {
            "samples": 64,
            "share_nonnegative": share,
            "cosine_mean": 0.5,
            "cosine_interval": [0.4, 0.6],
            "gain": {"nsr_prerl": 0.1},
            "by_group": {"mlp": {"share_nonnegative": 0.75, "cosine_mean": 0.2}},
        }
    ]
    * SEEDS
    for moment, share in (("base", 1.0), ("handoff", 1.0), ("end", 0.9))
}


def shown(finding):
    return {one.measure: one for one in finding.beside}


def test_area_and_samples_by_hand():
    one = curve((0.3, 0.5, 0.8))
    assert one.area.mean() == pytest.approx(((0.3 + 0.5) / 2 + (0.5 + 0.8) / 2) / 2)
    assert one.samples_to(0.65) == pytest.approx(7.5 * 256) and one.samples_to(0.3) == 0
    assert one.samples_to(0.9) is None
    assert curve((0.3, 0.6, 0.5)).first_drop() == 10 and curve((0.3, 0.6, 0.58)).first_drop() is None


def test_dsrl_ahead_by_a_known_area_is_reproduced():
    found = sample_efficiency(CURVES)
    assert found.estimate.value == pytest.approx(0.05)  # 0.1 higher at 5 of 0, 5, 10
    table = shown(found)
    assert table["area, dsrl less grpo"].value == pytest.approx(0.05)
    assert table["avg@4 at the end, dsrl less grpo"].value == pytest.approx(0)
    level = 0.95 * 0.8  # of grpo's best
    grpo, dsrl = (5 + 5 * (level - 0.5) / 0.3) * 256, (5 + 5 * (level - 0.6) / 0.2) * 256
    assert table[f"samples to avg@4 {level:.3f}, grpo"].value == pytest.approx(grpo, rel=0.01)
    assert table["samples of grpo over samples of dsrl, to that level"].value == pytest.approx(grpo / dsrl, rel=0.01)


def test_runs_that_never_reach_the_level_are_counted_and_give_no_ratio():
    found = shown(sample_efficiency({**CURVES, "dsrl": arm(0.3, 0.4, 0.5, phases=(5,))}))
    row = next(one for name, one in found.items() if name.startswith("samples to") and name.endswith(", dsrl"))
    assert row.value is None and row.note == "3 of 3 runs never reach it"
    assert "samples of grpo over samples of dsrl, to that level" not in found


def test_nsr_below_psr_contradicts():
    found = nsr_beats_psr(CURVES, 10)
    assert found.estimate.value == pytest.approx(-0.2)
    assert shown(found)["iterations until nsr_prerl is 0.05 below its best"].value == 10
    assert shown(found)["iterations until psr_prerl is 0.05 below its best"].value is None


def test_four_times_the_thoughts_at_the_handoff():
    found = thoughts(CURVES)
    assert math.exp(found.estimate.value) == pytest.approx(4)
    assert not found.rare
    assert shown(found)["reflection an answer, dsrl over grpo, at the end"].value == pytest.approx(0.5)
    few = {**CURVES, "dsrl": arm(0.3, 0.6, 0.8, thoughts=(0, 4, 1), phases=(5,))}
    assert thoughts(few).rare
    assert shown(thoughts(few))["reflection an answer, at the handoff, over the base"].note == "too rare"


def test_alignment_pools_the_samples_of_all_moments():
    found = alignment(ALIGNED)
    assert found.estimate.value == pytest.approx((1 + 1 + 0.9) / 3)
    assert found.estimate.low > 0.9 and found.null == 0.5
    assert shown(found)["share in mlp alone, base"].value == pytest.approx(0.75)
    assert shown(found)["share, end"].value == pytest.approx(0.9)


def test_alignment_of_a_single_prompt_has_no_interval_of_its_cosine():
    one = {**ALIGNED["base"][0], "cosine_interval": None}
    found = shown(alignment({moment: [one] for moment in ALIGNED}))["cosine of a response's two gradients, base"]
    assert (found.value, found.low, found.high, found.note) == (0.5, None, None, "")


@pytest.fixture
def studied():
    findings = [alignment(ALIGNED), nsr_beats_psr(CURVES, 10), sample_efficiency(CURVES), thoughts(CURVES)]
    chosen = {arm.name: 1e-4 for arm in ARMS} | {"bonus": 0.01}
    return Study(world="<arithmetic>", chosen=chosen, tried={"grpo": {"0.0001": 0.5}}, curves=CURVES, findings=findings)


def test_verdicts_and_the_json_that_scripts_read(studied):
    judged = judge([studied])
    assert [one.verdict for one in judged] == ["reproduced", "contradicted", "reproduced", "reproduced"]
    rows = [one.as_json("the command") for one in judged]
    json.dumps(rows, allow_nan=False)
    for row in rows:
        assert {"name", "verdict", "estimate", "interval", "seeds", "command"} <= row.keys()
        assert row["interval"][0] <= row["estimate"] <= row["interval"][1]
    assert rows[3]["estimate"] == pytest.approx(4) and rows[3]["seeds"] == 3


def test_the_page_has_no_script_and_shows_names_as_text(studied):
    results = {"command": "python -m dsrl.claims <x>", "version": "1", "seconds": 60.0, "seeds": [0, 1, 2]}
    page = claims_page(results, [studied], judge([studied]))
    assert "<script" not in page and "&lt;arithmetic&gt;" in page and "&lt;x&gt;" in page
    assert page.count("<polyline") == len(CURVES) and "contradicted" in page


def test_a_run_is_read_question_by_question(tmp_path):
    (tmp_path / "config.yaml").write_text("prompts_per_iteration: 2\nresponses_per_prompt: 3\n")
    (tmp_path / "metrics.jsonl").write_text(
        '{"iteration": 0, "phase": 1, "reward/mean": 0.1}\n{"iteration": 1, "phase": 2, "reward/mean": 0.2}\n'
    )
    lines = [
        {
            "iterations_done": 2,
            "set": "s",
            "k": 2,
            "reward": [1.0, 0.5],
            "tokens": [9, 8],
            "thoughts": {"reflection": [1, 0]},
        },
        {
            "iterations_done": 0,
            "set": "s",
            "k": 2,
            "reward": [0.0, 0.5],
            "tokens": [7, 6],
            "thoughts": {"reflection": [0, 0]},
        },
        {"iterations_done": 0, "set": "t", "k": 2, "reward": [0.0], "tokens": [7], "thoughts": {"reflection": [0]}},
    ]
    (tmp_path / "validations.jsonl").write_text(
        "".join(json.dumps({"iteration": line["iterations_done"] - 1, **line}) + "\n" for line in lines)
    )
    found = read_curve(tmp_path)
    assert found.done == (0, 2) and found.accuracy.tolist() == [[0.0, 0.5], [1.0, 0.5]]
    assert found.tokens.tolist() == [[7, 6], [9, 8]] and found.responses == 6 and found.phases == (1,)
    with pytest.raises(DSRLError, match="no validation after 1 iterations"):
        found.at(1)
    with pytest.raises(DSRLError, match="no validations.jsonl"):
        read_curve(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["slow"], "slow: give one of quick, full, map"),
        (["seeds=[0,0]"], "different whole numbers"),
        (["seeds=[100]"], "100 is among seeds"),
        (["learning_rates=[0]"], "must be numbers above 0"),
        (["worlds=[retri]"], "Did you mean 'retry'"),
        (["run_dir=x"], "each run has its own; out=FOLDER"),
        (["validation.every=3"], "give validate_every"),
        (["iterations=12"], "iterations=12: must be a multiple of validate_every=5"),
        (["jobs=0"], "jobs=0: must be a whole number, at least 1"),
        (["align_samples=0"], "align_samples=0: must be a whole number"),
        (["k=1"], "k=1: must be a whole number, at least 2"),
        (["tuning_seeds=[]"], "needed to choose among several"),
        (["seeds=[true]"], "different whole numbers"),
        (["seeds=[99999999999]"], "below 2**32"),
        (["learning_rates=[true]"], "must be numbers above 0"),
        (["bonuses=[.inf]"], "must be numbers above 0"),
        (["learning_rates=[1e-4,1.0000001e-4]"], "must be different in the first six digits"),
        (["worlds=3"], "worlds=[3]: allowed are arithmetic, retry"),
        (["worlds=null"], "worlds=[None]: allowed are"),
        (["worlds=[]"], "worlds=[]: give each of"),
        (["worlds=[retry,retry]"], "give each of arithmetic, retry once"),
        (["worlds=retry", "model=smollm2"], "worlds: are the embedded ones"),
        (["map", "model=smollm2"], "map varies the embedded worlds"),
        (["map", "bonuses=[0.1]"], "bonuses: the map has no use for it"),
        (["map", "learning_rates=[1e-4,1e-3]"], "the map has one, which its cells vary"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        settings_of(arguments)


def test_command_lines_of_all_arms_are_checked_before_anything_runs(tmp_path):
    out = f"out={tmp_path}"
    check_arms(settings_of([out]), "arithmetic")
    with pytest.raises(ConfigError, match="unknown key 'optimzer.betas'"):
        check_arms(settings_of([out, "optimzer.betas=[0.9,0.9]"]), "arithmetic")
    with pytest.raises(ConfigError, match=r"phase2.start=4: must be a multiple of validate_every=5"):
        check_arms(settings_of([out, "model.phase1_iterations=4"]), "arithmetic")
    with pytest.raises(ConfigError, match="dynamic_sampling=1: runs are compared at equal samples"):
        check_arms(settings_of([out, "dynamic_sampling=1"]), "arithmetic")
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1", "answer": "2"}\n')
    own = ("model=tiny", "data=questions", f"data.train={tmp_path / 'rows.jsonl'}", "verifier=exact")
    with pytest.raises(ConfigError, match=r"data.val: held-out questions are needed"):
        check_arms(settings_of([out, *own]), "given")


def test_a_job_is_the_same_in_a_folder_that_moved_and_another_at_another_rate(tmp_path):
    def job(folder, rate):
        settings = settings_of([f"out={tmp_path / folder}"])
        return run_job(settings, "arithmetic", ARMS[0], settings.out / "run", 0, {"nsr_prerl": rate})

    assert job("a", 1e-4).words == job("b", 1e-4).words != job("a", 3e-4).words
    assert [*job("b", 1e-4).places] == [f"run_dir={tmp_path / 'b' / 'run'}"]


def test_a_model_of_the_users_own_in_the_folder_of_all_runs_is_no_place(tmp_path):
    settings = settings_of([f"out={tmp_path}", f"model={tmp_path}/base"])
    job = run_job(settings, "given", ARMS[0], settings.out / "run", 0, {"nsr_prerl": 1e-4})
    assert f"model={tmp_path}/base" in job.words


def test_a_single_seed_decides_nothing(studied):
    one = replace(studied, findings=[replace(finding, seeds=1) for finding in studied.findings])
    judged = judge([one])
    assert {one.verdict for one in judged} == {"undecided"} and {one.seeds_needed for one in judged} == {None}
    assert {one.note for one in judged} == {"one seed says nothing of how much runs differ"}


def test_what_is_not_finite_is_null_in_json_and_decides_nothing(studied):
    first, *rest = studied.findings
    first = replace(
        first,
        estimate=replace(first.estimate, value=math.nan),
        beside=[Shown(measure="a ratio", value=3.0, low=1.0, high=math.inf)],
    )
    judged = judge([replace(studied, findings=[first, *rest])])
    assert judged[0].verdict == "undecided"
    row = judged[0].as_json("the command")
    json.dumps(row, allow_nan=False)
    assert row["estimate"] is None and row["beside"][0]["high"] is None and row["beside"][0]["low"] == 1.0


def test_questions_without_a_reward_somewhere_are_left_out_everywhere():
    lacking = CURVES["grpo"][0].accuracy.copy()
    lacking[1, 3] = math.nan
    curves = {**CURVES, "grpo": [replace(CURVES["grpo"][0], accuracy=lacking), *CURVES["grpo"][1:]]}
    found = answered_in_all(curves)
    kept = np.arange(QUESTIONS) != 3
    assert all((found[arm][2].accuracy == CURVES[arm][2].accuracy[:, kept]).all() for arm in CURVES)
    assert sample_efficiency(found).estimate.value == pytest.approx(0.05)
    nothing = [replace(CURVES["grpo"][0], accuracy=lacking * math.nan)]
    with pytest.raises(DSRLError, match="none of the 40 held-out questions has a reward in every validation"):
        answered_in_all({"grpo": nothing})


def test_the_bonus_is_chosen_by_the_entropy_of_all_responses_after_the_handoff(monkeypatch, tmp_path):
    """Both fall by the same law; a bonus of 0.01 has dsrl's entropy, and more of it before the handoff."""

    def entropies(scale):
        return [{"iteration": number, "response/entropy": scale * 0.4 * math.exp(-number / 8)} for number in range(20)]

    scales = {0.003: 0.7, 0.01: 1.0}

    def read(folder):
        bonus = float(folder.name.partition("-")[0]) if folder.parent.name == "grpo_entropy" else 0.01
        return replace(curve((0.3, 0.5, 0.8), phases=(10,)), metrics=entropies(scales.get(bonus, 1.0)))

    monkeypatch.setattr(study_module, "run_jobs", lambda jobs, **_: None)
    monkeypatch.setattr(study_module, "read_curve", read)
    chosen, tried = tune(settings_of([f"out={tmp_path}"]), "arithmetic", Console(file=io.StringIO()))
    assert chosen["bonus"] == 0.01 and tried["grpo_entropy"]["dsrl"] == pytest.approx(tried["grpo_entropy"]["0.01"])


def test_settings_of_a_command_line():
    quick = settings_of(["out=/x", "seeds=[5,6]", "prompts_per_iteration=8"])
    assert (quick.mode, quick.seeds, quick.worlds) == ("quick", (5, 6), ("arithmetic",))
    assert quick.of_world("arithmetic") == (
        "model=tiny",
        "data=arithmetic",
        "data.val_size=64",
        "prompts_per_iteration=8",
    )
    own = settings_of(["full", "model=smollm2", "data.train=a.jsonl"])
    assert own.worlds == ("given",) and own.of_world("given") == ("model=smollm2", "data.train=a.jsonl")
