"""Text to token ids: chat template, truncation, and the start token of the marginal space."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dsrl.data.source import DataSource, Messages
from dsrl.errors import ConfigError
from dsrl.models.loading import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dsrl.config.schema import ModelConfig


@dataclass(kw_only=True)
class PromptEncoder:
    """Turn questions into prompts: what the model reads.

    start_token: the context of the marginal space, a token or its id; None chooses (see `start_token_id`).
    chat: whether questions go through the tokenizer's chat template, where it has one. chat_options: what the template
    is given beside the messages; models that think read `enable_thinking`.
    system_prompt: put before questions that carry no system message; needs a chat template.
    template: text around a question, in which `{question}` stands for it; for models without a chat.
    max_tokens: longer prompts lose their beginning.
    """

    tokenizer: PreTrainedTokenizerBase
    start_token: str | int | None = None
    chat: bool = True
    chat_options: Mapping[str, Any] = field(default_factory=lambda: {"enable_thinking": False})
    system_prompt: str | None = None
    template: str | None = None
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        """Raises ConfigError for a system prompt or a template that no question would carry."""
        if self.template is not None and self.templated:
            raise ConfigError(
                f"data.template={self.template!r:.60}: goes with model.chat=false, not with a chat template"
            )
        if self.system_prompt and not self.templated:
            why = "model.chat is false" if self.tokenizer.chat_template else "the tokenizer has no chat template"
            raise ConfigError(f"data.system_prompt={self.system_prompt!r:.60}: it needs a chat template, and {why}")

    @property
    def templated(self) -> bool:
        """Whether questions go through the chat template."""
        return self.chat and bool(self.tokenizer.chat_template)

    @cached_property
    def start_token_id(self) -> int:
        """The one given; else the token that opens the chat template, where questions go through it; else BOS; where
        there is none, the template's all the same; else EOS (arXiv 2604.14142 uses Qwen's `<|im_start|>`).

        BOS is not always what opens a chat, as with GPT-OSS and Phi-4. Raises ConfigError where
        the given token is not in the vocabulary, or none can be found.
        """
        tokenizer = self.tokenizer
        if self.start_token is not None:
            return self._known(self.start_token)
        opening = self._opening_id() if self.templated or tokenizer.bos_token_id is None else None
        for found in (opening, tokenizer.bos_token_id, tokenizer.eos_token_id):
            if found is not None:
                return int(found)
        raise ConfigError("the tokenizer has no BOS, no chat template and no EOS token: set model.start_token")

    @classmethod
    def of(cls, model: ModelConfig, data: DataSource) -> PromptEncoder:
        """Make the encoder that a model's and a data source's settings ask for, with the model's tokenizer."""
        return cls(
            tokenizer=load_tokenizer(model),
            start_token=model.start_token,
            chat=model.chat,
            chat_options=model.chat_options,
            system_prompt=data.system_prompt,
            template=data.template,
            max_tokens=data.max_prompt_tokens,
        )

    def leaving_room(self, positions: int | None, max_new_tokens: int, max_length: int | None = None) -> PromptEncoder:
        """Leave room for the longest response: the same encoder, whose prompts lose their beginning earlier if needed.

        Args:
            positions: how many tokens the model has positions for; None: any number.
            max_new_tokens: tokens of the longest response.
            max_length: how many tokens prompt and response may have together in the sampler; None: any number.

        Raises:
            ConfigError: the model's positions leave no room for a prompt.
        """
        if positions is not None and positions <= max_new_tokens:
            raise ConfigError(
                f"sampling.max_new_tokens={max_new_tokens}: the model has {positions} positions, which a prompt shares"
            )
        room = [length - max_new_tokens for length in (positions, max_length) if length is not None]
        return replace(self, max_tokens=min([self.max_tokens, *room]))

    def encode(self, question: str | Messages) -> tuple[int, ...]:
        """Encode a question: the token ids that the model reads, at most `max_tokens`, at least 1."""
        return self.read(question)[1]

    def read(self, question: str | Messages) -> tuple[str, tuple[int, ...], bool]:
        """Render a question: its text, its token ids (at most `max_tokens`, at least 1), and whether any were cut."""
        if self.templated:
            messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
            if self.system_prompt and all(message["role"] != "system" for message in messages):
                messages.insert(0, {"role": "system", "content": self.system_prompt})
            text = self._render(messages)
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids  # silent about length
        else:
            text = question if isinstance(question, str) else "\n".join(message["content"] for message in question)
            text = text if self.template is None else self.template.replace("{question}", text)
            ids = self.tokenizer(text, verbose=False).input_ids
        kept = tuple(int(token) for token in ids[-self.max_tokens :]) or (self.start_token_id,)
        return text, kept, len(ids) > self.max_tokens

    def decode(self, responses: Sequence[Sequence[int]], ends: Collection[int] = ()) -> list[str]:
        """Decode responses to texts as they were written: tags that are special tokens, such as `<think>`, stay.

        What frames a sequence is left out wherever it stands: BOS, EOS and padding of the tokenizer, and `ends`, the
        other tokens that end a response.
        """
        tokenizer = self.tokenizer
        frame = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, *ends}
        return [str(tokenizer.decode([token for token in ids if token not in frame])) for ids in responses]

    def token_id(self, token: str) -> int:
        """Look up the id of one token of the vocabulary, such as a stop token. Raises ConfigError for anything else."""
        return self._known(token)

    def _opening_id(self) -> int | None:
        """Find the token that opens the chat template; None where there is no template, or it opens with plain text."""
        if not self.tokenizer.chat_template:
            return None
        text = self._render([{"role": "user", "content": "x"}])
        (first, *_) = self.tokenizer(text, add_special_tokens=False).input_ids or [None]
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return first if first in special else None

    def _render(self, messages: Messages) -> str:
        rendered: Any = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=True, **self.chat_options
        )
        return str(rendered)

    def _known(self, token: str | int) -> int:
        if isinstance(token, int) and 0 <= token < len(self.tokenizer):
            return token
        vocabulary = self.tokenizer.get_vocab()
        if isinstance(token, str) and token in vocabulary:
            return int(vocabulary[token])
        raise ConfigError(f"token {token!r} is not in the tokenizer's vocabulary of {len(self.tokenizer)} tokens")
