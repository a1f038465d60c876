"""Arguments of Lightning's Trainer that are no keys of `trainer`: another key says it, or the loop itself does it."""

LOOP = "the loop is one iteration an epoch, in batches and validations of its own"

INSTEAD = {
    "logger": "loggers are chosen by logger=NAME",
    "callbacks": "callbacks are chosen by callbacks=NAME, or added by +callbacks.mine._target_=CLASS",
    "fast_dev_run": "iterations=1 is a short run",
    "max_epochs": "iterations says how long a run is",
    "min_epochs": "iterations says how long a run is",
    "max_steps": "iterations says how long a run is",
    "min_steps": "iterations says how long a run is",
    "limit_train_batches": LOOP,
    "limit_val_batches": "validation.every=0 turns validation off; data.val says which questions it asks",
    "limit_test_batches": LOOP,
    "limit_predict_batches": LOOP,
    "overfit_batches": LOOP,
    "val_check_interval": "validation.every says how often",
    "check_val_every_n_epoch": "validation.every says how often",
    "num_sanity_val_steps": "the whole validation runs before the first iteration; validation.every=0 turns it off",
    "log_every_n_steps": "every iteration is logged",
    "enable_checkpointing": "checkpoint.every says how often",
    "enable_progress_bar": "the loop shows its own",
    "enable_model_summary": "a callback shows it: +callbacks.summary._target_=lightning.pytorch.callbacks.ModelSummary",
    "accumulate_grad_batches": "update.micro_batch_tokens bounds a pass, update.minibatches makes optimizer steps",
    "gradient_clip_val": "update.clip_norm says it, since the loop clips by itself",
    "gradient_clip_algorithm": "update.clip_norm clips by norm",
    "inference_mode": LOOP,
    "use_distributed_sampler": "the loop gives each rank its prompts",
    "barebones": "the loop needs what it turns off",
    "plugins": "trainer.strategy and trainer.precision choose them; others work in a Trainer of your own, from Python",
    "sync_batchnorm": "language models have no batch norm",
    "reload_dataloaders_every_n_epochs": LOOP,
    "default_root_dir": "run_dir is the folder",
    "enable_autolog_hparams": "config.yaml holds them",
    "model_registry": "checkpoints are written to run_dir",
}
"""Argument, and what to do instead. With the fields of TrainerConfig these are all that Lightning's Trainer has."""
