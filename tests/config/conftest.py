import pytest

from dsrl.config import compose
from dsrl.config.store import store_registry


@pytest.fixture(scope="module", autouse=True)
def registry_stored_once():
    """Filling Hydra's store takes longer than the composition that is under test."""
    store_registry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "store_registry", lambda: None)
        yield
