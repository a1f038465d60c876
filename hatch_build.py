"""What a package index shows: README.md with links and images that work there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

try:
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ModuleNotFoundError:  # its test needs no build
    MetadataHookInterface = object

IMAGE = re.compile(r"!\[([^\]]*)\]\((?!https?://)([^)]+)\)\n*")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)([^)]+)\)")


class ReadmeForIndex(MetadataHookInterface):
    """Put the readme into the metadata, and what an index links to; `repository` is set in pyproject.toml."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add `readme`, and what lies in the repository to `urls`."""
        repository = str(self.config.get("repository", ""))
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": readme_for_index(text, repository)}
        metadata["urls"] = addresses(repository)


def readme_for_index(text: str, repository: str) -> str:
    """Make relative links and images absolute, to the repository; where there is none, leave them out.

    Args:
        text: of README.md.
        repository: its address on GitHub; empty where it has none.
    """
    if not repository:
        return LINK.sub(r"\1", IMAGE.sub("", text))
    text = IMAGE.sub(rf"![\1]({repository}/raw/main/\2)\n\n", text)
    return LINK.sub(rf"[\1]({repository}/blob/main/\2)", text)


def addresses(repository: str) -> dict[str, str]:
    """List what an index links to: the paper, and the repository where there is one."""
    paper = {"Paper": "https://arxiv.org/abs/2604.14142"}
    if not repository:
        return paper
    return paper | {
        "Repository": repository,
        "Documentation": f"{repository}/blob/main/docs/index.md",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
