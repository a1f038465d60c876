"""What every command does alike."""

from __future__ import annotations

import importlib
import os
import sys
from types import SimpleNamespace

import pytest

import dsrl.command
from dsrl.command import READER_GONE, broken, called_as, command, help_of
from dsrl.config.help import help_text
from dsrl.runs.terminal import terminal
from dsrl.version import __version__

COMMANDS = ("train", "evaluate", "align", "plan", "claims", "report", "export", "worlds.pretrain", "worlds.admission")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_version_is_ours(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--version"])
    importlib.import_module(f"dsrl.{name}").main()
    assert capsys.readouterr().out == f"dsrl {__version__}\n"


def test_a_reader_that_has_gone_ends_it_quietly(monkeypatch, capfd):
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "stdout", os.fdopen(write, "w"))
    with pytest.raises(SystemExit) as ended:
        command(lambda: print("a line"))()
    assert ended.value.code == READER_GONE
    sys.stdout.close()  # as at exit: nothing is raised any more
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("module", "argv", "name"),
    [
        (None, "/usr/bin/dsrl-train", "dsrl-train"),
        (None, "../train.py", "python ../train.py"),
        ("dsrl.train", "/site/dsrl/train.py", "python -m dsrl.train"),
        ("pytest.__main__", "/usr/bin/pytest", "python -m dsrl.train"),
    ],
)
def test_a_command_is_named_as_it_was_called(module, argv, name, monkeypatch):
    spec = None if module is None else SimpleNamespace(name=module)
    monkeypatch.setattr(dsrl.command.__main__, "__spec__", spec)
    monkeypatch.setattr(sys, "argv", [argv])
    assert called_as("dsrl.train") == name
    text = f"`python -m dsrl.train` trains.\n\n    python -m dsrl.train {'x' * 150}   an example\n"
    assert help_of(text, "dsrl.train") == f"`{name}` trains.\n\n    {name} {'x' * 150}   an example"
    if module is None:
        assert f"\n  {name} -m objective=grpo,nsr_prerl " in help_text([])


def test_lines_break_between_words_at_the_width_of_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert broken("  key   some words that are long", 8) == "  key   some words\n        that are\n        long"
    assert (
        broken("run_dir=/a/long/path/that-people/copy goes on", 2) == "run_dir=/a/long/path/that-people/copy\n  goes on"
    )
    assert help_of("One two three four five six.", "m") == "One two three four\nfive six."
    assert terminal().width == 20
    monkeypatch.setenv("COLUMNS", "90")
    lines = help_text([]).splitlines()
    assert not [line for line in lines if len(line) > 90 and " -" not in line and "/" not in line and "{" not in line]
    monkeypatch.delenv("COLUMNS")
    assert terminal().width == 160
