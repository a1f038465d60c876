"""`python -m dsrl.plan` and `dsrl-plan`: what a run needs, before anything of it is loaded.

    python -m dsrl.plan objective=nsr_prerl +phase2=grpo model=smollm2
    python -m dsrl.plan experiment=paper_qwen3_4b trainer=fsdp trainer.devices=8 plan.device_gib=80
    python -m dsrl.plan experiment=paper_qwen3_4b update.micro_batch_tokens=auto plan.device_gib=141 json=true

It takes the words of `python train.py`, and `json=true`. data.train may be left out: prompts are taken to be as long as
data.max_prompt_tokens, or plan.prompt_tokens. What only a run needs, such as vLLM, need not be installed. The other
keys of `plan` are listed by `python train.py --help`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from dsrl.command import command, help_of
from dsrl.config.build import build_run_config
from dsrl.config.compose import compose_tree, composing
from dsrl.config.run_config import RunConfig
from dsrl.errors import ConfigError, DSRLError, print_error
from dsrl.runs.terminal import terminal

JSON = "json="


@command
def main() -> None:
    """Run the command line. What the user can mend ends with one message and exit code 2."""
    try:
        run(sys.argv[1:], terminal())
    except DSRLError as error:
        sys.exit(print_error(error))


def run(arguments: Sequence[str], console: Console) -> None:
    """Print the plan of a command line, or its help. Raises ConfigError."""
    if {"-h", "--help"} & {*arguments}:
        print(help_of(__doc__, "dsrl.plan"))
        return
    if options := [text for text in arguments if text.startswith("-")]:
        raise ConfigError(f"{options[0]}: there is --help; the rest are words of train.py, and json=true")
    forms = [text.removeprefix(JSON) for text in arguments if text.startswith(JSON)]
    if wrong := [form for form in forms if form not in ("true", "false")]:
        raise ConfigError(f"json={wrong[0]}: must be true or false")
    config = compose_to_plan([text for text in arguments if not text.startswith(JSON)])
    from dsrl.planning.plan import plan_of  # heavy imports only for what runs
    from dsrl.planning.table import plan_tables

    plan = plan_of(config)
    if forms and forms[-1] == "true":
        print(json.dumps(plan.as_json(), indent=2, allow_nan=False))
    else:
        console.print(plan_tables(plan))


def compose_to_plan(overrides: Sequence[str]) -> RunConfig:
    """Compose the configuration of a run that may have no data yet, and that another machine may run.

    Raises ConfigError with every problem found.
    """
    with composing():
        composed = compose_tree(overrides)
        data = composed.data
        if isinstance(data, DictConfig) and "train" in data and (OmegaConf.is_missing(data, "train") or not data.train):
            composed.data = {"name": "arithmetic", "max_prompt_tokens": data.max_prompt_tokens}
        return build_run_config(composed, runs_here=False)


if __name__ == "__main__":
    main()
