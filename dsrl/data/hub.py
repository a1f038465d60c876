"""Read records from Hugging Face data sets: by a name on the hub, or from a folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsrl.data.files import suffix_of, table_records
from dsrl.errors import ConfigError, nearest
from dsrl.storage.hub_messages import tell_once

SAVED = ("dataset_dict.json", "dataset_info.json")
"""Files that `save_to_disk` writes."""

DOWNLOADED = (".parquet", ".jsonl", ".csv", ".tsv")
"""Endings of files in a copy of a data set's repository; folders of models hold .json, too."""


def is_saved(path: Path) -> bool:
    """Tell whether `save_to_disk` wrote this folder."""
    return any((path / name).is_file() for name in SAVED)


def is_dataset(path: Path) -> bool:
    """Tell whether this folder was written by `save_to_disk`, or is a copy of a repository of the hub."""
    files = [*path.glob("*"), *path.glob("*/*")]  # its files, or those of each configuration
    return is_saved(path) or any((suffix_of(file) or "").startswith(DOWNLOADED) for file in files)


def hub_records(
    path: str, *, config: str | None, split: str | None, default_split: str, revision: str | None
) -> Iterator[tuple[str, Any]]:
    """Yield each record of a data set with its place, such as `NAME, split test, row 3`; rows count from 0.

    Args:
        path: a name on the hub, or a folder.
        config: the data set's configuration on the hub.
        split: which split; without it `default_split`, or, if that is `train`, also the only one there is.
        default_split: `train` or `test`.
        revision: a branch, tag or commit on the hub.

    Raises:
        ConfigError: the data set cannot be reached, or has no such split.
    """
    import datasets

    datasets.utils.logging.disable_progress_bar()
    tell_once()
    label = path if config is None else f"{path} ({config})"
    try:
        folder = Path(path).expanduser()
        if is_saved(folder):
            found: Any = datasets.load_from_disk(str(folder))
        else:
            place = str(folder) if folder.is_dir() else path
            found = datasets.load_dataset(place, name=config, revision=revision)
    except Exception as error:  # each storage and file format has errors of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"data set {label} cannot be loaded: {reason} (without a network: a file or a folder that `save_to_disk` "
            f"wrote, or HF_HUB_OFFLINE=1 to use what is in the cache)"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        splits = list(found)
        chosen = split or (splits[0] if default_split == "train" and len(splits) == 1 else default_split)
        if chosen not in found:
            raise ConfigError(
                f"data set {label} has no split '{chosen}'; it has {', '.join(splits)}: write "
                f"{{path: {path}, split: NAME}}.{nearest(chosen, splits)}"
            )
        found, label = found[chosen], f"{label}, split {chosen}"
    elif split is not None:
        raise ConfigError(f"data set {label} was saved without splits; leave out split={split}")
    features = _with_media_closed(found.features)
    records = map(features.decode_example, table_records(found.with_format("arrow").iter(batch_size=1000)))
    yield from ((f"{label}, row {number}", record) for number, record in enumerate(records))


def _with_media_closed(features: Any) -> Any:
    """Leave images, sound and the like as they are stored: they are not asked, and need packages to be opened."""
    import datasets

    def close(feature: Any) -> None:
        parts = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else ()
        for part in (*parts, *([feature.feature] if hasattr(feature, "feature") else [])):
            close(part)
        if hasattr(feature, "decode") and not isinstance(feature, datasets.features.features.Json):
            feature.decode = False

    closed = copy.deepcopy(features)
    close(closed)
    return datasets.Features(closed)
