"""The commands of a bash block: what they ask for is checked as dsrl would check it, or run with small sizes."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

import dsrl.align
import dsrl.claims
import dsrl.evaluate
import dsrl.export
import dsrl.plan
import dsrl.report
from dsrl.config.build import build_run_config
from dsrl.config.command_line import search_path
from dsrl.config.compose import check_command_line, compose
from dsrl.evaluation.align_config import compose_align
from dsrl.evaluation.config import compose_evaluation
from dsrl.replication.settings import settings_of
from dsrl.runs.fit import fit
from dsrl.worlds import admission, pretrain

ROOT = Path(__file__).parents[2]
SMALL = [
    "iterations=4",
    "prompts_per_iteration=4",
    "responses_per_prompt=4",
    "sampling.max_new_tokens=24",
    "validation.every=0",
    "logger=none",
]
WORLD_COMMANDS = {module.__name__: module for module in (admission, pretrain)}
LAUNCHERS = re.compile(r"^(torchrun|srun) .*?(?=train\.py)")
ROWS = '{"question": "1+1=", "answer": "2"}\n{"question": "2+2=", "answer": "4"}\n'
FILE = re.compile(r"[\w./-]+\.(?:jsonl|csv|parquet)")


@dataclass
class Command:
    """One command line: variables before it, its words, and what is fed to it (`<<'EOF'`)."""

    variables: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    text: str = ""


def commands_of(code: str) -> Iterator[Command]:
    """The commands of a block; comments are left out, `\\` at the end of a line goes on with the next one."""
    lines = iter(code.replace("\\\n", " ").splitlines())
    for line in lines:
        document = re.search(r"<<'(\w+)'", line)
        if document:
            body = "\n".join(iter(lambda: next(lines), document[1]))
            yield Command(words=shlex.split(line, comments=True), text=f"{line}\n{body}\n{document[1]}\n")
            continue
        for part in re.split(r"\s&&\s", line):
            words = shlex.split(LAUNCHERS.sub("python ", part), comments=True)
            variables = dict(word.split("=", 1) for word in _leading_variables(words))
            if words[len(variables) :]:
                yield Command(variables=variables, words=words[len(variables) :], text=part)


def check_command(command: Command) -> None:
    """Check what a command asks for, without doing it. Raises ValueError for a command that no check is known for."""
    _dispatch(
        command,
        train=_check_train,
        evaluate=partial(_check_evaluate, composes=compose_evaluation),
        align=partial(_check_evaluate, composes=compose_align),
        plan=_check_plan,
        export=_check_export,
        report=_check_report,
        claims=settings_of,
        shell=_check_shell,
    )


def run_command(command: Command, overrides: list[str]) -> None:
    """Do what a command asks for, in the current folder, with `overrides`; training with small sizes."""
    _dispatch(
        command,
        train=lambda words: _run_train(_merged(SMALL, words, overrides)),
        evaluate=lambda words: _run_evaluate(words if _compares(words) else _merged(words, overrides)),
        align=lambda words: dsrl.align.run(_merged(words, overrides), Console(quiet=True)),
        plan=lambda words: dsrl.plan.run([*words, *overrides], Console(quiet=True)),
        export=dsrl.export.main,
        report=dsrl.report.main,
        claims=lambda words: dsrl.claims.run([*words, *overrides], Console(quiet=True)),
        shell=_run_shell,
    )


def _dispatch(
    command: Command,
    *,
    train: Callable[[list[str]], None],
    evaluate: Callable[[list[str]], None],
    align: Callable[[list[str]], None],
    plan: Callable[[list[str]], None],
    export: Callable[[list[str]], None],
    report: Callable[[list[str]], None],
    claims: Callable[[list[str]], object],
    shell: Callable[[Command], None],
) -> None:
    words = command.words
    with pytest.MonkeyPatch.context() as patch:
        for name, value in command.variables.items():
            patch.setenv(name, value)
        if words[:2] == ["python", "train.py"]:
            train(words[2:])
        elif words[0] == "dsrl-train":
            train(words[1:])
        elif words[:3] == ["python", "-m", "dsrl.evaluate"]:
            evaluate(words[3:])
        elif words[:3] == ["python", "-m", "dsrl.align"]:
            align(words[3:])
        elif words[:3] == ["python", "-m", "dsrl.plan"]:
            plan(words[3:])
        elif words[:3] == ["python", "-m", "dsrl.export"]:
            export(words[3:])
        elif words[:3] == ["python", "-m", "dsrl.report"]:
            report(words[3:])
        elif words[:3] == ["python", "-m", "dsrl.claims"]:
            claims(words[3:])
        else:
            shell(command)


def _leading_variables(words: list[str]) -> Iterator[str]:
    for word in words:
        if not re.fullmatch(r"[A-Z_]+=.*", word):
            return
        yield word


def _check_train(words: list[str]) -> None:
    """Names, keys, types, and values against each other. What an earlier run has written is not looked for."""
    flags = [word for word in words if word.startswith("-")]
    folders = [search_path(flag.partition("=")[2]) for flag in flags if flag.startswith("--config-dir=")]
    unknown = {flag.partition("=")[0] for flag in flags} - {"-m", "--cfg", "--resolve", "--help", "--config-dir"}
    assert not unknown, unknown
    overrides = [word for word in words if word not in (*flags, "job", "prompt", "...")]
    _stand_in_files(overrides)
    composes_alone = {"--cfg", "--help"} & {*flags}
    overrides = [word for word in overrides if not word.startswith("resume=")]
    check_command_line(
        [*overrides, *folders],
        multirun="-m" in flags,
        check=(lambda composed: None) if composes_alone else build_run_config,
    )


def _check_evaluate(words: list[str], composes: Callable[[list[str]], object]) -> None:
    if _compares(words) or any(word.startswith(("model=runs/", "resume=")) for word in words):
        assert all(re.match(r"[\w.]+=.", word) for word in words), words  # of a run that is not there
        return
    overrides = [word for word in words if word not in ("--cfg", "job", "prompt", "...")]
    _stand_in_files(overrides)
    composes(overrides)


def _check_plan(words: list[str]) -> None:
    overrides = [word for word in words if not word.startswith("json=")]
    _stand_in_files(overrides)
    dsrl.plan.compose_to_plan(overrides)


def _check_export(words: list[str]) -> None:
    checkpoint, _, *flags = words
    assert checkpoint.endswith(".ckpt") and flags in ([], ["--adapter"]), words


def _check_report(words: list[str]) -> None:
    dsrl.report.parser().parse_intermixed_args(words)


def _check_shell(command: Command) -> None:
    words = command.words
    if words[0] in ("pip", "python") and "install" in words:
        _check_install(words)
    elif words[:2] == ["python", "-m"] and words[2] in WORLD_COMMANDS:
        WORLD_COMMANDS[words[2]].parser().parse_args([word for word in words[3:] if word != "--help"])
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {*words[1:]} <= {*targets}, words
    elif words[0] == "python" and words[1].startswith("benchmarks/"):
        script = (ROOT / words[1]).read_text()
        assert all(f'"{word}"' in script for word in words[2:] if word.startswith("--")), words
    elif words[0] in ("cat", "printf"):
        _run_shell(command)
    elif "pytest" in (words[0], words[-2]):
        found = [path for path in (Path(words[-1]), ROOT / words[-1]) if path.exists()]
        assert found and re.search(r"^def test_", found[0].read_text(), re.MULTILINE), words
    elif words not in (["pre-commit", "install"], ["mkdocs", "build", "--strict"], ["mkdocs", "serve"]):
        raise ValueError(f"{command.text}: there is no check for it; mark the block 'snippet: run' or 'skip, REASON'")


def _check_install(words: list[str]) -> None:
    """The extras that are asked for exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for asked in re.findall(r"(?:\.|dual-space-rl)\[(.+?)\]", " ".join(words)):
        assert {*asked.split(",")} <= {*extras}, asked


def _stand_in_files(overrides: list[str]) -> None:
    """Two questions in place of each file that a command names and that a reader has."""
    for name in FILE.findall(" ".join(overrides)):
        path = Path(name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(ROWS)


def _merged(*parts: list[str]) -> list[str]:
    """Overrides of which a later one takes the place of an earlier one."""
    return [*{word.partition("=")[0]: word for part in parts for word in part}.values()]


def _compares(words: list[str]) -> bool:
    return any(word.startswith("compare=") for word in words)


def _run_train(words: list[str]) -> None:
    fit(compose(words))


def _run_evaluate(words: list[str]) -> None:
    dsrl.evaluate.run(words, Console(quiet=True))


def _run_shell(command: Command) -> None:
    subprocess.run(["bash", "-euc", command.text], check=True, timeout=900)
