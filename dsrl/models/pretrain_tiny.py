"""Pre-train the embedded tiny model on additions: `python -m dsrl.models.pretrain_tiny OUT`.

The text is traces of `dsrl.data.arithmetic_world`, some of them with errors and reconsiderations. A part of them has no
question in front, so the model knows P(y) as well as P(y|x): `<bos>trace<eos>` beside `<bos>question trace<eos>`.
No held-out question is ever used. The same seed gives the same bits on one machine.
"""

import argparse
import math
import random
from pathlib import Path

import torch
from rich.progress import track
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dsrl.data.arithmetic_world import RECONSIDER, sample_problem, write_trace

ERROR_RATE = 0.3
"""A step of the text is wrong with this probability."""

RECONSIDER_RATE = 0.3
"""A wrong step of the text is taken back with this probability."""

NO_QUESTION = 0.3
"""This part of the text has no question."""

MAX_NEW_TOKENS = 96
"""No answer needs more: 4 steps, each taken back, are 74 to 83 tokens with the sum and `<eos>`."""

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
PAD, BOS, EOS = range(3)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token a character: printable ASCII and the line feed; all else is `<unk>`.

    It puts `<bos>` in front of every text.
    """
    characters = ["\n", *map(chr, range(32, 127))]
    ids = {token: i for i, token in enumerate(SPECIAL + characters)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", BOS)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        **{f"{token[1:-1]}_token": token for token in SPECIAL},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_model(vocab_size: int, seed: int) -> LlamaForCausalLM:
    """Build a Llama of half a million parameters with fresh weights. vLLM on a CPU needs heads of dimension 32."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=MAX_NEW_TOKENS,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return model


def write_text(rng: random.Random) -> str:
    """Write one line of the pre-training text, without its `<bos>`."""
    question, _ = sample_problem(rng)
    trace = write_trace(rng, question, ERROR_RATE, RECONSIDER_RATE)
    return f"{'' if rng.random() < NO_QUESTION else question}{trace}<eos>"


def pretrain(steps: int, seed: int, batch_size: int, lr: float) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train a fresh model on every token of fresh text.

    Args:
        steps: optimizer steps, a batch each.
        seed: of weights and text.
        batch_size: lines of text in a batch.
        lr: the peak learning rate; it warms up over a twentieth of the steps, then decays (cosine).
    """
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), seed).train()
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    for _ in track(range(steps), description="pre-training"):
        text = [write_text(rng) for _ in range(batch_size)]
        batch = tokenizer(text, padding=True, padding_side="right", return_tensors="pt", return_token_type_ids=False)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)  # [batch, length]
        loss = model(**batch, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval(), tokenizer


@torch.no_grad()
def measure(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: int, seed: int
) -> tuple[float, float, float]:
    """Answer held-out problems at temperature 1, once each.

    Returns the share of right answers, and the means of reconsiderations and of tokens in an answer.
    """
    rng = random.Random(seed)
    questions, answers = zip(*(sample_problem(rng, held_out=True) for _ in range(problems)), strict=True)
    prompts = tokenizer(list(questions), return_tensors="pt", return_token_type_ids=False)  # all of one length
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        output = model.generate(**prompts)[:, prompts["input_ids"].shape[1] :]  # type: ignore[misc]  # [problems, T]
    traces = tokenizer.batch_decode(output, skip_special_tokens=True)
    right = sum(trace.rpartition("#")[2] == answer for trace, answer in zip(traces, answers, strict=True))
    reconsidered = sum(trace.count(RECONSIDER) for trace in traces)
    tokens = int(output.ne(PAD).sum())
    return right / problems, reconsidered / problems, tokens / problems


CARD = """\
# tiny

A Llama of {parameters:,} parameters (fp32, {layers} layers, hidden {hidden}, {heads} heads of dimension 32, tied
embeddings) with a tokenizer of one token a character. It adds two numbers of 4 digits, writing its steps, with slips in
them and now and then a reconsideration (`?`):

    5037+9208=7+8+0=13;?7+8+0=15;3+0+1=4;0+2+0=2;5+9+0=14;#14245

It is there so that `dsrl` runs, and shows what PreRL does, on a CPU, offline, in minutes. It knows nothing else.

Made by

    python -m dsrl.models.pretrain_tiny {out} \\
        --steps {steps} --seed {seed} --batch-size {batch_size} --lr {lr} --threads {threads}

on text of `dsrl.data.arithmetic_world`:
steps wrong with probability {error_rate}, wrong steps taken back with probability
{reconsider_rate}, {no_question:.0%} of the traces without their question. One question in ten is held out, never used.

Measured on {problems} held-out problems, one answer each at temperature 1: {right:.1%} right,
{reconsidered:.2f} reconsiderations and {tokens:.0f} tokens an answer.
"""


def main() -> None:
    """Train, measure, and save the model, its tokenizer and its card."""
    parser = argparse.ArgumentParser(
        prog="python -m dsrl.models.pretrain_tiny", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--steps", type=int, default=1500, help="optimizer steps (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="lines of text a step (%(default)s)")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and text (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="the bits depend on it (%(default)s)")
    parser.add_argument("--problems", type=int, default=1024, help="held-out problems to measure on (%(default)s)")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    model, tokenizer = pretrain(args.steps, args.seed, args.batch_size, args.lr)
    right, reconsidered, tokens = measure(model, tokenizer, args.problems, args.seed)
    card = CARD.format(
        **vars(args),
        parameters=model.num_parameters(),
        layers=model.config.num_hidden_layers,
        hidden=model.config.hidden_size,
        heads=model.config.num_attention_heads,
        error_rate=ERROR_RATE,
        reconsider_rate=RECONSIDER_RATE,
        no_question=NO_QUESTION,
        right=right,
        reconsidered=reconsidered,
        tokens=tokens,
    )
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    (args.out / "README.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
