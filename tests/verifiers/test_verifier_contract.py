"""Every registered verifier keeps the contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsrl import build, names
from dsrl.registry import find
from dsrl.types import Prompt
from dsrl.verifiers.contract import CHECKS, Bench

REWARDS = Path(__file__).with_name("rewards.py")
TOWER = r"\boxed{9^{9^{9^9}}}"
QUESTION = Prompt(position=0, text="1+1=", token_ids=(1,), ground_truth="2", data_source="sums")
CHAIN = {"question": "1 + 1 =", "answer": "2", "metadata": {"source_dataset": "chain_sum"}}
FENCED = "```python\n{}\n```"
LETHAL_CODE = (
    "while True: pass",
    "import os; os._exit(0)",
    "import os\nwhile True: os.fork()",
    "x = bytearray(10 << 30)",
)
BENCHES = {
    "exact": ({}, {}),
    "choice": ({}, {"prompt": {"ground_truth": "C"}, "right": "It is (C)", "wrong": "It is (D)"}),
    "auto": ({"number": {"name": "math", "timeout": 1.0}}, {"lethal": [TOWER]}),
    "numeric": ({}, {"right": "so 2.0 kg"}),
    "regex": (
        {"pattern": r"(a+)+b|\b2\b", "timeout": 0.3},
        {"lethal": ["a" * 40]},
    ),
    "format": ({}, {"right": "<think>1+1</think> <answer>2</answer>"}),
    "length": (
        {"max_length": 20, "cache": 10},
        {"right": "x" * 10, "wrong": "x" * 15},
    ),
    "math": ({"timeout": 1.0}, {"lethal": [TOWER, r"\boxed{100000000!}"]}),
    "reasoning_gym": (
        {},
        {"prompt": {"data_source": "reasoning_gym/chain_sum", "extra": {"extra_info": {"entry": CHAIN}}}},
    ),
    "python": (
        {"timeout": 1.0, "memory": 256},
        {
            "prompt": {"ground_truth": "assert double(2) == 4"},
            "right": FENCED.format("def double(x): return 2 * x"),
            "wrong": FENCED.format("def double(x): return x"),
            "lethal": [FENCED.format(code) for code in LETHAL_CODE],
        },
    ),
    "function": (
        {"path": f"{REWARDS}:dangerous_trl", "timeout": 1.0, "max_failed": 1.0},
        {"lethal": ["crash", "exit", "hang", "nan", "wrong length", "nothing readable"]},
    ),
    "composite": (
        {
            "components": {
                "math": {"weight": 1.0, "timeout": 1.0},
                "format": 0.5,
                "sign": {"name": "exact", "weight": -0.25},
            }
        },
        {"lethal": [TOWER], "right": r"\boxed{2.0}"},
    ),
    "by_source": (
        {"sources": {"sums": {"name": "math", "timeout": 1.0}}, "default": "exact"},
        {"lethal": [TOWER]},
    ),
}


@pytest.fixture(
    scope="module",
    params=[name for name in names("verifier") if find("verifier", name).__module__.startswith("dsrl.")],
)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "reasoning_gym":
        pytest.importorskip("reasoning_gym")
    parameters, given = BENCHES[request.param]
    prompt = dataclasses.replace(QUESTION, **given.get("prompt", {}))
    rest = {key: value for key, value in given.items() if key != "prompt"}
    verifier = build("verifier", {"name": request.param, **parameters})
    if problems := verifier.check():
        assert request.param == "python"
        pytest.skip(problems[0])
    yield Bench(verifier=verifier, prompt=prompt, **{"right": "2", "wrong": "3", **rest})
    verifier.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(bench: Bench, check) -> None:
    check(bench)
