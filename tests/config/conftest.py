import pytest


@pytest.fixture(scope="module", autouse=True)
def stored(registry_stored_once):
    """For all tests of this folder."""
