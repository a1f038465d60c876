"""Let a judge say which class a thought is of: a language model behind an API like OpenAI's, such as `vllm serve`.

    DSRL_PLUGINS=examples.my_judge python train.py 'thoughts={name: judge, url: "http://localhost:8000/v1"}'

A response is cut at blank lines; the thoughts of many responses are asked about at once.
"""

import json
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dsrl import Thought, Thoughts, build, register

CLASSES = ("reflection", "transition", "execution")
ASK = (
    "Here is one step of a solution. Answer with one word: reflection where it doubts or checks what came before, "
    "transition where it begins another approach, execution where it goes on.\n\n"
)


@register("thoughts", "judge")
@dataclass(kw_only=True)
class Judge(Thoughts):
    """Ask a language model for the class of each part between blank lines; what it does not say is execution."""

    url: str
    """Address of the API, up to `/v1`."""
    model: str = "default"
    """Name of the judge there."""
    threads: int = 32
    """Questions that are under way at once."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in order."""
        return CLASSES

    def split_all(self, texts: Sequence[str]) -> list[list[Thought]]:
        """Find the thoughts of many responses."""
        parts = [build("thoughts", "seal").split(text) for text in texts]
        asked = [text[part.start : part.end] for text, own in zip(texts, parts, strict=True) for part in own]
        with ThreadPoolExecutor(self.threads) as pool:
            said = iter([*pool.map(self.ask, asked)])
        return [[part._replace(class_name=next(said)) for part in own] for own in parts]

    def ask(self, thought: str) -> str:
        """Return the class that the judge names."""
        message = {"role": "user", "content": ASK + thought}
        body = {"model": self.model, "messages": [message], "temperature": 0, "max_tokens": 8}
        request = urllib.request.Request(
            f"{self.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answered:
            said = json.load(answered)["choices"][0]["message"]["content"].lower()
        return next((name for name in CLASSES if name in said), "execution")
