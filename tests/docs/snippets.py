"""The fenced blocks of a Markdown page, and what the page says of how a test treats them.

A comment that readers do not see stands right before a block and changes what the test does with it:

    <!-- snippet: run -->                      commands are run, with small sizes, and not only checked
    <!-- snippet: run with KEY=VALUE ... -->   so, and with these values
    <!-- snippet: skip, REASON -->             nothing is done

A fence `python title="my_package/rewards.py"` is a file: it is written to the page's folder, and imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARK = re.compile(r"<!-- snippet: (run(?: with .+)?|skip, .+) -->")
LANGUAGES = ("python", "bash", "yaml", "toml", "json", "text")
"""`text` is for what is no code: output of a program, a tree of files."""


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """One fenced block. `line` is that of its first line of code in the page, from 1."""

    page: Path
    line: int
    language: str
    title: str
    code: str
    mark: str

    @property
    def runs(self) -> bool:
        """Whether its commands are to be run."""
        return self.mark.startswith("run")

    @property
    def overrides(self) -> list[str]:
        """What is added to its commands."""
        return self.mark.removeprefix("run").removeprefix(" with ").split()

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets_of(page: Path) -> list[Snippet]:
    """Every fenced block of a page. Raises ValueError for one without a known language and for an indented one."""
    found, mark = [], ""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block" and token.content.startswith("<!-- snippet:"):
            matched = MARK.fullmatch(token.content.strip())
            if not matched:
                raise ValueError(
                    f"{page}: {token.content.strip()}: must be 'run', 'run with KEY=VALUE ...' or 'skip, REASON'"
                )
            mark = matched[1]
        elif token.type in ("fence", "code_block"):
            assert token.map is not None
            language, _, rest = token.info.strip().partition(" ")
            if language not in LANGUAGES:
                raise ValueError(f"{page}:{token.map[0] + 1}: a block needs a fence with one of {LANGUAGES}")
            title = re.search(r'title="(.+?)"', rest)
            found.append(
                Snippet(
                    page=page,
                    line=token.map[0] + 2,
                    language=language,
                    title=title[1] if title else "",
                    code=token.content,
                    mark=mark,
                )
            )
            mark = ""
        elif token.type != "html_block" and mark:
            raise ValueError(f"{page}: 'snippet: {mark}' must stand right before a block")
    return found
