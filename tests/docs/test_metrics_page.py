"""docs/metrics.md has every key that a run writes, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from snippets import ROOT

from dsrl.config.metric_names import NAMES

PAGE = (ROOT / "docs" / "metrics.md").read_text()
PLACEHOLDERS = {
    "NAME": ".+",
    "TERM": r"[A-Za-z]+\d+",
    "SPACE": "(conditional|marginal)",
    "SET": r"[\w.]+",
    "CLASS": r"\w+",
    "DIRECTION": "(grpo|nsr|psr|prerl|nsr_prerl|psr_prerl|objective|common|reward)",
    "GROUP": "(embeddings|attention|mlp|norms|head|other)",
    "BIN": r"(p_c|p_m|position)_[\d.]+",
    "MEASURE": "(norm_ratio|(nonnegative|cosine)(/right|/wrong)?)",
    "@k": r"@\d+",
    "@j": r"@\d+",
}
OF_AN_ENGINE_OR_A_GPU = {
    "sync/seconds",
    "sync/gib",
    "memory/allocated_gib",
    "memory/reserved_gib",
    "memory/engine_gib",
}


def keys_of(section: str) -> list[str]:
    """What the first cells of a section's tables name."""
    (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE)
    return [key for cell in cells for key in re.findall(r"`(.+?)`", cell)]


def pattern(key: str) -> re.Pattern[str]:
    """What a key with placeholders stands for."""
    parts = re.split("(" + "|".join(PLACEHOLDERS) + ")", key)
    return re.compile("".join(PLACEHOLDERS.get(part, re.escape(part)) for part in parts))


def lines(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.fixture
def folders(fit, tmp_path: Path) -> list[Path]:
    """Runs that together have every metric that a CPU without an engine can have."""
    phases = "phase2.start={name: threshold, above: -1}", "phase2.objective.kl.coefficient=0.1"
    more = "dynamic_sampling=1", "curriculum.always_right=0.5", "mismatch.correction=on", "initial_kl.every=1"
    warned = "monitors.truncation.share=-1", "monitors.truncation.window=1"
    parts = "verifier=composite", "verifier.components={exact: 1.0, length: {max_length: 64, cache: 16}}"
    probe = "+probe=alignment", "probe.levels=[0,1,2,3]"
    fit(
        "objective=nsr_prerl",
        "+phase2=grpo",
        "objective.token_weight=known",
        *phases,
        *more,
        *warned,
        *probe,
        "iterations=2",
        f"run_dir={tmp_path}/phases",
    )
    fit("objective=mixed", *parts, "iterations=1", "update.on_nonfinite=skip", f"run_dir={tmp_path}/mixed")
    return [tmp_path / "phases", tmp_path / "mixed"]


def test_the_page_has_every_key_of_a_run_and_no_other(folders):
    for name in ("metrics.jsonl", "samples.jsonl"):
        found = {key for folder in folders for line in lines(folder, name) for key in line}
        patterns = {key: pattern(key) for key in keys_of(name)}
        assert {key for key in found if not any(each.fullmatch(key) for each in patterns.values())} == set()
        unseen = {key for key, each in patterns.items() if not any(map(each.fullmatch, found))}
        assert unseen == (OF_AN_ENGINE_OR_A_GPU if name == "metrics.jsonl" else set())


def test_what_a_configuration_may_watch_is_what_the_page_has():
    """The names that are checked before a run; those of places and warnings are no metrics of an iteration's own."""
    page = keys_of("metrics.jsonl")
    elsewhere = {"iteration", "phase", "objective", "handoff_reason", "iterations_done", "warnings/NAME"}
    known = [name for family in NAMES for name in family.names]
    assert {*known} == {key for key in page if not key.startswith("probe/")} - elsewhere
    assert len(known) == len({*known})


def test_what_an_engine_or_a_gpu_alone_has_is_in_the_code():
    code = "".join(path.read_text() for path in (ROOT / "dsrl").rglob("*.py"))
    for key in OF_AN_ENGINE_OR_A_GPU - {"memory/allocated_gib", "memory/reserved_gib"}:
        assert f'"{key}"' in code
    assert 'f"memory/{name}_gib"' in code and '"allocated"' in code and '"reserved"' in code


def test_no_key_is_explained_twice():
    for name in ("metrics.jsonl", "samples.jsonl"):
        keys = keys_of(name)
        assert len(keys) == len(set(keys)) > 15
