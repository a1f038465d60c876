"""Text to token ids: chat template, what the tokenizer adds, truncation, the start token of the marginal space."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dsrl.data.last_turn import ends_with_assistant
from dsrl.data.source import DataSource, Messages
from dsrl.errors import ConfigError
from dsrl.models.loading import load_tokenizer
from dsrl.parallel.collectives import own_rank

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dsrl.config.schema import ModelConfig
    from dsrl.models.policy import Policy


@dataclass(kw_only=True)
class PromptEncoder:
    """Turn questions into prompts: what the model reads.

    start_token: the context of the marginal space, a token or its id; None chooses (see `start_token_id`).
    chat: whether questions go through the tokenizer's chat template, where it has one. chat_options: what the template
    is given beside the messages; models that think read `enable_thinking`. chat_date: the date, as 2026-11-30, that
    templates write into prompts as the day's (Llama 3.2, SmolLM3, GPT-OSS); None: today's.
    system_prompt: put before questions that carry no system message; needs a chat template that shows it.
    template: text around a question, in which `{question}` stands for it; for models without a chat.
    max_tokens: longer prompts lose their beginning.
    embeddings: how many tokens the model has embeddings for; None: not known yet (`for_model`).

    A chat whose last turn is the assistant's is left open there: the model goes on with that turn. What the tokenizer
    appends to every text, such as EOS, is left out: a prompt is not the end of a text. What it puts before every text,
    such as BOS, stands there once, also where the text begins with it.
    """

    tokenizer: PreTrainedTokenizerBase
    start_token: str | int | None = None
    chat: bool = True
    chat_options: Mapping[str, Any] = field(default_factory=lambda: {"enable_thinking": False})
    chat_date: str | None = None
    system_prompt: str | None = None
    template: str | None = None
    max_tokens: int = 1024
    embeddings: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a system prompt or a template that no question would carry."""
        if self.template is not None and self.templated:
            raise ConfigError(
                f"data.template={self.template!r:.60}: goes with model.chat=false, not with a chat template"
            )
        if self.system_prompt and not self.templated:
            why = "model.chat is false" if self.tokenizer.chat_template else "the tokenizer has no chat template"
            raise ConfigError(f"data.system_prompt={self.system_prompt!r:.60}: it needs a chat template, and {why}")
        if self.system_prompt:
            self._check_system_prompt(self.system_prompt)

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
                return self._embedded(int(found), "P(y) starts from it: model.start_token names another")
        raise ConfigError("the tokenizer has no BOS, no chat template and no EOS token: set model.start_token")

    @classmethod
    def of(cls, model: ModelConfig, data: DataSource) -> PromptEncoder:
        """Make the encoder that a model's and a data source's settings ask for, with the model's tokenizer."""
        return cls(
            tokenizer=load_tokenizer(model),
            start_token=model.start_token,
            chat=model.chat,
            chat_options=model.chat_options,
            chat_date=model.chat_date,
            system_prompt=data.system_prompt,
            template=data.template,
            max_tokens=data.max_prompt_tokens,
        )

    def fitting(self, policy: Policy, max_new_tokens: int, max_length: int | None = None) -> PromptEncoder:
        """Fit encoder and policy to each other: the encoder `leaving_room` `for_model`, and the policy ready to read
        its longest prompt with the longest response. Raises ConfigError where they do not go together.
        """
        fitted = self.leaving_room(policy.positions, max_new_tokens, max_length).for_model(policy)
        policy.read_up_to(fitted.max_tokens + max_new_tokens)
        return fitted

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

    def for_model(self, policy: Policy) -> PromptEncoder:
        """Refuse tokens that the model has no embedding for: the same encoder, which knows how many it has.

        Where the tokenizer holds such tokens that nothing uses, it is said once.

        Raises:
            ConfigError: no response could end, since all tokens that end one are such tokens.
        """
        known = replace(self, embeddings=policy.embeddings)
        ends = end_token_ids(self.tokenizer, policy.model.generation_config)
        if ends and min(ends) >= policy.embeddings:
            known._embedded(min(ends), "it ends a response, so that none would end")
        if (unknown := known.tokens_without_embeddings) and own_rank() == 0:
            logger.warning("%s; what uses one is refused", known._sizes(unknown))
        return known

    @cached_property
    def tokens_without_embeddings(self) -> list[str]:
        """The tokens of the tokenizer that the model has no embedding for; none where the model is not known."""
        if self.embeddings is None:
            return []
        beyond = [(number, token) for token, number in self.tokenizer.get_vocab().items() if number >= self.embeddings]
        return [token for _, token in sorted(beyond)]

    def encode(self, question: str | Messages) -> tuple[int, ...]:
        """Encode a question: the token ids that the model reads, at most `max_tokens`, at least 1."""
        return self.read(question)[1]

    def read(self, question: str | Messages) -> tuple[str, tuple[int, ...], bool]:
        """Render a question: its text, its token ids (at most `max_tokens`, at least 1), and whether any were cut."""
        text = self.render(question)
        if self.templated or not self._adds:
            ids = self._ids(text)
        else:
            opening, ids, _ = self.split_ids(text)
            ids = ids if ids[: len(opening)] == opening else opening + ids
        kept = tuple(int(token) for token in ids[-self.max_tokens :]) or (self.start_token_id,)
        self._embedded(max(kept), f"a prompt holds it: {text!r:.200}")
        return text, kept, len(ids) > self.max_tokens

    def render(self, question: str | Messages) -> str:
        """Write a question as the text that is encoded. Raises ConfigError where the chat template refuses it."""
        if self.templated:
            messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
            if self.system_prompt and all(message["role"] != "system" for message in messages):
                messages.insert(0, {"role": "system", "content": self.system_prompt})
            return self._render(messages)
        if isinstance(question, str):
            asked, begun = question, ""
        else:  # what the assistant has begun stands at the end, also where a template stands around the rest
            contents = [message["content"] for message in question]
            begun = contents.pop() if self.template is not None and ends_with_assistant(question) else ""
            asked = "\n".join(contents)
        return asked if self.template is None else self.template.replace("{question}", asked) + begun

    @cached_property
    def opening_text(self) -> str:
        """The token that opens the chat template, as text; empty where it opens with plain text, or there is none."""
        opening = self._opening_id()
        return "" if opening is None else str(self.tokenizer.convert_ids_to_tokens(opening))

    def split_ids(self, text: str) -> tuple[list[int], list[int], list[int]]:
        """Encode a text by itself: what the tokenizer adds before it, its own token ids, and what is added after it.

        Where these cannot be told apart, all are taken for the text's own.
        """
        own, full = self._ids(text), list(self.tokenizer(text, verbose=False).input_ids)
        for start in range(len(full) - len(own) + 1):
            if full[start : start + len(own)] == own:
                return full[:start], own, full[start + len(own) :]
        return [], full, []

    def decode(self, responses: Sequence[Sequence[int]], ends: Collection[int] = ()) -> list[str]:
        """Decode responses to texts as they were written: tags that are special tokens, such as `<think>`, stay.

        What frames a sequence is left out wherever it stands: BOS, EOS and padding of the tokenizer, and `ends`, the
        other tokens that end a response.
        """
        tokenizer = self.tokenizer
        frame = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, *ends}
        kept = ([token for token in ids if token not in frame] for ids in responses)
        return [str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)) for ids in kept]

    def token_id(self, token: str) -> int:
        """Look up the id of one token of the vocabulary, such as a stop token. Raises ConfigError for anything else."""
        return self._known(token)

    @cached_property
    def _adds(self) -> bool:
        """Whether the tokenizer adds anything to texts."""
        return len(self.tokenizer("", verbose=False).input_ids) > len(self._ids(""))

    def _ids(self, text: str) -> list[int]:
        """Encode a text with nothing added; silent about its length, which is dealt with here."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def _check_system_prompt(self, system_prompt: str) -> None:
        label = f"data.system_prompt={system_prompt!r:.60}"
        asked = {"role": "user", "content": "x"}
        try:
            text = self._render([{"role": "system", "content": system_prompt}, asked])
        except ConfigError as error:
            raise ConfigError(
                f"{label}: the model's chat template takes no system message ({error}); leave it out, or write it into "
                f"the questions"
            ) from error
        if system_prompt.strip() not in text:
            raise ConfigError(
                f"{label}: the model's chat template leaves out system messages; leave it out, or write it into the "
                f"questions"
            )

    def _opening_id(self) -> int | None:
        """Find the token that opens the chat template; None where there is no template, or it opens with plain text."""
        if not self.tokenizer.chat_template:
            return None
        asked = {"role": "user", "content": "x"}
        try:
            text = self._render([asked])
        except ConfigError:  # some templates want a system message
            text = self._render([{"role": "system", "content": "x"}, asked])
        first = next(iter(self._ids(text)), None)
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return first if first in special else None

    @cached_property
    def _in_parts(self) -> bool:
        """Whether the chat template takes contents as lists of parts alone, as some templates of models that see do."""
        found = []
        for content in ("x7", [{"type": "text", "text": "x7"}]):
            try:
                found.append("x7" in self._apply([{"role": "user", "content": content}]))
            except ConfigError:
                found.append(False)
        return found == [False, True]

    def _render(self, messages: Messages) -> str:
        if not self._in_parts:
            return self._apply([dict(message) for message in messages])
        parts = [[{"type": "text", "text": message["content"]}] for message in messages]
        return self._apply([{**message, "content": part} for message, part in zip(messages, parts, strict=True)])

    def _apply(self, messages: list[dict[str, Any]]) -> str:
        continued = ends_with_assistant(messages)
        try:
            rendered: Any = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not continued,
                continue_final_message=continued,
                **{"strftime_now": self._day.strftime, **self.chat_options},
            )
        except Exception as error:  # templates are programs, and may fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            to_do = "; data.last_turn=drop asks without the last turn, by the assistant" if continued else ""
            raise ConfigError(f"the model's chat template refuses it: {reason:.300}{to_do}") from error
        return str(rendered)

    @cached_property
    def _day(self) -> datetime:
        """The day that templates are given; without a time, so that no two prompts differ by it."""
        day = date.today() if self.chat_date is None else date.fromisoformat(self.chat_date)
        return datetime.combine(day, time())

    def _known(self, token: str | int) -> int:
        asked = "the configuration asks for it"
        if isinstance(token, int) and 0 <= token < len(self.tokenizer):
            return self._embedded(token, asked)
        vocabulary = self.tokenizer.get_vocab()
        if isinstance(token, str) and token in vocabulary:
            return self._embedded(int(vocabulary[token]), asked)
        raise ConfigError(f"token {token!r} is not in the tokenizer's vocabulary of {len(self.tokenizer)} tokens")

    def _embedded(self, token: int, use: str) -> int:
        """Give the token back where the model has an embedding for it. Raises ConfigError, with its use, otherwise."""
        if self.embeddings is None or token < self.embeddings:
            return token
        raise ConfigError(f"{self._sizes([str(self.tokenizer.convert_ids_to_tokens(token))])}; {use}")

    def _sizes(self, tokens: Sequence[str]) -> str:
        """Say that the tokenizer has more tokens than the model, and which of them it is about."""
        size = max(self.tokenizer.get_vocab().values()) + 1
        shown = ", ".join(tokens[:5]) + (f" and {len(tokens) - 5} more" if len(tokens) > 5 else "")
        return (
            f"the tokenizer has {size} tokens and the model embeddings for {self.embeddings}, none for {shown} "
            f"(model.resize_token_embeddings({size}) of transformers makes room)"
        )


def end_token_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any) -> set[int]:
    """Collect the ids of the tokens that end a response: the tokenizer's EOS, and those of the generation config."""
    given = [tokenizer.eos_token_id, getattr(generation_config, "eos_token_id", None)]
    return {token for part in given for token in (part if isinstance(part, list) else [part]) if token is not None}
