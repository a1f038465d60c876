"""A hub that does not answer is told of once."""

import logging

from dsrl.storage.hub_messages import ASKS, tell_once


def test_of_all_attempts_the_first_is_told_with_what_to_do(caplog):
    tell_once()
    tell_once()
    logger = logging.getLogger(ASKS)
    assert len(logger.filters) == 1
    logger.filters[0].told = False
    for wait in (1, 2, 4):
        logger.warning("'[Errno -2] Name or service not known' thrown while requesting HEAD https://hub/config.json")
        logger.warning(f"Retrying in {wait}s [Retry {wait}/5].")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == [
        "the Hugging Face hub does not answer and is asked again, for half a minute at most (HF_HUB_OFFLINE=1 asks the "
        "cache alone): '[Errno -2] Name or service not known'",
        "something else",
    ]
