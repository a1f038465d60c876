"""Use dsrl's module, data and phases in a Lightning Trainer of your own, with your callbacks and loggers.

    python examples/own_trainer.py [KEY=VALUE ...]

One epoch is one iteration. PhaseScheduler writes the policy of a handoff into `checkpoints` in the Trainer's folder;
the rest is yours to write.
"""

import sys

import lightning as L

from dsrl import DSRLModule, PhaseScheduler, PromptData, compose


class PrintReward(L.Callback):
    """Print the mean reward of every iteration."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read it where Lightning's callbacks and loggers find it."""
        metrics = trainer.callback_metrics
        print(f"iteration {trainer.current_epoch}: phase {metrics['phase']:.0f}, reward {metrics['reward/mean']:.3f}")


if __name__ == "__main__":
    config = compose(["objective=nsr_prerl", "+phase2=grpo", *sys.argv[1:]])
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=config.iterations,
        callbacks=[PhaseScheduler(config.phases), PrintReward()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=config.run_dir,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(DSRLModule(config), PromptData.of(config))
