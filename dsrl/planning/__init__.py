"""Know what a run needs before it loads: memory of each rank, tokens, FLOPs, bytes of a sync and of a checkpoint.

    architecture.py   the model's shapes, without its weights: from a config.json, the hub, or architectures.json
    tracking.py       memory by part, counted while code runs on fake tensors
    dtypes.py         the types of numbers: of the compute, and of what ranks exchange
    workload.py       the sizes of what runs on a rank: rows, lengths, micro-batches
    fake_iteration.py one iteration of rank 0 of any number of ranks, on fake tensors
    memory.py         from that to the peak of each stage: what is gathered, served by an engine, written
    work.py           tokens and FLOPs of each phase, bytes and seconds of syncs and checkpoints
    device.py         the device of a rank, and its memory
    plan.py           all of it together: `plan_of(config)`
    remedies.py       what would make a run fit
    table.py          a plan for people
    admission.py      at the start of a run: refused where it cannot fit, `update.micro_batch_tokens=auto`

Commands: `python -m dsrl.plan` (docs/plan.md).
"""
