"""What a test registers and imports from its own folder, forgotten afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from dsrl import registry
from dsrl.registry import KINDS, load_plugins, registered_parts


@pytest.fixture
def own_registry() -> Iterator[None]:
    """Parts that the test registers are gone after it, from the registry and from Hydra's options."""
    load_plugins()
    before = {kind: dict(registered_parts[kind]) for kind in KINDS}
    yield
    for kind in KINDS:
        for name in {*registered_parts[kind]} - {*before[kind]}:
            for group in ConfigStore.instance().repo.values():
                if isinstance(group, dict):
                    group.pop(f"{name}.yaml", None)
        registered_parts[kind].clear()
        registered_parts[kind].update(before[kind])


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_registry: None) -> Iterator[Path]:
    """A folder that is the current one, and on the path; parts and modules of the test are gone after it."""
    monkeypatch.setattr(registry.plugins, "_loaded", set(registry.plugins._loaded))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    mine = {path.stem for path in tmp_path.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in mine]:
        del sys.modules[name]
