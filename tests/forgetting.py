"""What a test registers and imports from its own folder, forgotten afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from dsrl import registry


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is the current one, and on the path; parts and modules of the test are gone after it."""
    registry.load_plugins()
    for kind in registry.KINDS:
        monkeypatch.setitem(registry._registry, kind, dict(registry._registry[kind]))
    monkeypatch.setattr(registry, "_loaded", set(registry._loaded))
    stored = {group: dict(found) for group, found in ConfigStore.instance().repo.items() if isinstance(found, dict)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    ConfigStore.instance().repo.update(stored)
    mine = {path.stem for path in tmp_path.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in mine]:
        del sys.modules[name]
