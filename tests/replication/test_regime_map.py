"""The regime map: every cell is a command line that trains, and a known lead is found."""

import io
import shutil
from dataclasses import replace

import pytest
from rich.console import Console
from test_claims import arm

from dsrl.config.compose import compose
from dsrl.errors import ConfigError
from dsrl.models.loading import EMBEDDED
from dsrl.replication import regime_map
from dsrl.replication.places import PLACES
from dsrl.replication.regime_map import ARMS_OF_MAP, map_job, measure_map, pretrain_job
from dsrl.replication.settings import settings_of
from dsrl.worlds import RetryWorld
from dsrl.worlds.pretrain import parser
from dsrl.worlds.world_file import save_world


@pytest.fixture
def settings(tmp_path):
    return settings_of(["map", f"out={tmp_path}", "seeds=[3,4]"])


def made_model(settings, place):
    """Write what the pre-training of a place's model would leave of its world."""
    job = pretrain_job(settings, place)
    given = parser().parse_args(job.line)
    shutil.copytree(EMBEDDED["retry"], given.out)
    save_world(RetryWorld(guesses=given.guesses, repeat_rate=given.repeat_rate), given.out)


def test_every_cell_is_a_command_line_that_trains_from_its_own_model(settings):
    for place in (place for place in PLACES if place.pretrained):
        with pytest.raises(ConfigError, match=r"holds no world\.json"):
            map_job(settings, place, "dsrl", 3)
        made_model(settings, place)
    jobs = {(place.title, arm): map_job(settings, place, arm, 3) for place in PLACES for arm in ARMS_OF_MAP}
    once = {job.name: compose(job.line) for job in {job.name: job for job in jobs.values()}.values()}
    composed = {cell: once[job.name] for cell, job in jobs.items()}
    assert composed["warm-up, iterations: 10", "dsrl"].phases[1].start == 10
    assert composed["learning rate: 3e-5", "grpo"].optimizer.lr == 3e-5
    own = composed["base pass rate: one in three (world retry)", "grpo"]
    assert own.data.guesses == 3 and own.model.name.endswith("base-pass-rate-one-in-three-world-retry")
    assert all(config.prompts_per_iteration * config.responses_per_prompt == 256 for config in composed.values())


def test_a_cell_that_cannot_be_run_ends_the_map_before_anything_runs(tmp_path):
    short = settings_of(["map", f"out={tmp_path}", "iterations=10"])
    with pytest.raises(ConfigError, match="phase2.start=10: never reached"):
        measure_map(short, Console(file=io.StringIO()), (PLACES[0], PLACES[2]))


def test_places_have_folders_of_their_own_and_share_the_grpo_that_is_the_same(settings):
    assert len({place.folder for place in PLACES}) == len(PLACES)
    plain = [place for place in PLACES if not place.pretrained]
    names = [map_job(settings, place, "grpo", 3).name for place in plain]
    assert names[:3] == ["defaults/grpo/seed3"] * 3 and "learning-rate-3e-5/grpo/seed3" in names
    of_retries = [map_job(settings, place, "grpo", 3).name for place in plain if place.world == "retry"]
    assert of_retries == ["value-of-retries-a-fresh-guess-world-retry/grpo/seed3"] * 2
    assert len({map_job(settings, place, "dsrl", 3).name for place in plain}) == len(plain)


def test_a_known_lead_is_found_and_a_lead_of_one_seed_alone_is_none(settings, monkeypatch):
    levels = {"grpo": (0.3, 0.5, 0.8), "dsrl": (0.3, 0.6, 0.8)}
    mixed = [arm(0.3, 0.9, 0.8)[0], arm(0.3, 0.3, 0.6)[1]]

    def read(folder):
        kind, seed = folder.parent.name, int(folder.name.removeprefix("seed")) - 3
        found = mixed[seed] if kind == "dsrl" and "10" in folder.parents[1].name else arm(*levels[kind])[seed]
        logprobs = (-1.0, -1.5) if kind == "dsrl" else ()
        return replace(found, metrics=[{"marginal/logprob": value} for value in logprobs])

    monkeypatch.setattr(regime_map, "run_jobs", lambda jobs, **_: None)
    monkeypatch.setattr(regime_map, "read_curve", read)
    lead, undecided = measure_map(settings, Console(file=io.StringIO()), (PLACES[0], PLACES[2]))
    assert lead.difference.value == pytest.approx(0.05) and lead.leader == "dsrl" and lead.moved == -0.5
    assert (lead.base, lead.seeds) == (pytest.approx(0.3, abs=0.01), 2)
    assert undecided.leader == "neither"
    assert undecided.as_json()["words"] == ["phase2.start=10"]
