"""What a run would ask first, without the model: `python train.py ... --cfg prompt`."""

from __future__ import annotations

from dsrl.config.run_config import RunConfig
from dsrl.data.datamodule import PromptData
from dsrl.data.encoding import PromptEncoder
from dsrl.data.first_prompt import shown_prompt


def first_prompts(config: RunConfig) -> str:
    """Write the first prompt of training and of each validation set, whole, with their tokens counted.

    Reads the data and looks at all of its prompts, as a run does; of the model it loads the tokenizer alone. Raises
    ConfigError.
    """
    from dsrl.planning.architecture import architecture_of  # these load torch
    from dsrl.planning.plan import positions_of

    longest = max(phase.sampling.max_new_tokens for phase in config.phases)
    encoder = PromptEncoder.of(config.model, config.data)
    encoder = encoder.leaving_room(positions_of(architecture_of(config.model)), longest, config.sampler.max_length)
    data = PromptData.of(config, encoder)
    data.setup("fit")
    return "\n".join(
        shown_prompt(f"first prompt of {label}", row, encoder, most=None) for label, row in data.first_rows().items()
    )
