"""A plan for people: tables of its memory, its work, and what would make it need less."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from dsrl.planning.device import GIB
from dsrl.planning.memory import PARTS
from dsrl.planning.plan import Plan


def plan_tables(plan: Plan) -> RenderableType:
    """Lay a plan out: a verdict, memory by stage and part, work by phase, assumptions, remedies."""
    shown: list[RenderableType] = [_verdict(plan), _memory(plan), _work(plan), *_assumptions(plan)]
    if plan.fits is False or plan.fits is None:
        shown.append(_remedies(plan))
    return Group(*shown)


def _verdict(plan: Plan) -> str:
    config, device = plan.config, plan.device
    where = {
        None: "no device is known here (plan.device_gib=GIB)",
        True: f"fits {device.gib or 0:.1f} GiB ({device.kind})",
        False: f"does not fit {device.gib or 0:.1f} GiB ({device.kind})",
    }[plan.fits]
    ranks = f"{plan.workload.ranks} rank{'s' if plan.workload.ranks > 1 else ''}"
    return (
        f"{config.model.name}, {plan.shapes.parameters / 1e9:.3g}B parameters, {config.trainer.strategy}, {ranks}: "
        f"{plan.peak_gib:.2f} GiB on the rank that needs most, in {plan.memory.peak_at}; {where}"
    )


def _memory(plan: Plan) -> Table:
    stages = plan.memory.stages
    table = Table(title="Memory of a rank, GiB at the peak of each stage", title_justify="left")
    table.add_column("part")
    for name in stages:
        table.add_column(name, justify="right", style="bold" if name == plan.memory.peak_at else "")
    for part in PARTS:
        if any(parts[part] for parts in stages.values()):
            table.add_row(part, *(f"{parts[part] / GIB:.2f}" if parts[part] else "" for parts in stages.values()))
    table.add_section()
    table.add_row("total", *(f"{parts.total() / GIB:.2f}" for parts in stages.values()))
    return table


def _work(plan: Plan) -> Table:
    table = Table(title="Work of an iteration, all ranks: tokens and PFLOP", title_justify="left")
    table.add_column("phase")
    for stage in plan.phases[0].tokens:
        table.add_column(stage, justify="right")
    table.add_column("padding", justify="right")
    table.add_column("slowest", justify="right")
    for phase in plan.phases:
        cells = [f"{tokens:,} / {phase.flops[stage] / 1e15:.3g}" for stage, tokens in phase.tokens.items()]
        lost = [f"{tokens / phase.balance.real:.2f}" for tokens in (phase.balance.computed, phase.balance.slowest)]
        table.add_row(f"{phase.number} {phase.objective}", *cells, *lost)
    return table


def _assumptions(plan: Plan) -> list[str]:
    config, response = plan.config, plan.config.plan.response_tokens
    long = f"of {response} tokens" if response else "as long as may be (plan.response_tokens=MEAN)"
    sync = f"{plan.sync / GIB:.2f} GiB a rank, {plan.sync_seconds:.1f} s at {config.plan.network_gbps:g} GB/s"
    return [
        f"Prompts of {plan.workload.prompt_tokens} tokens, responses {long}, all of them kept; passes of "
        f"{plan.workload.micro_batch_tokens} tokens. Padding and slowest: what the update computes for each token, "
        "with padding, and with the time of the slowest ranks.",
        f"Sync of the sampler: {sync if plan.sync else 'none, the policy itself samples'}. Checkpoint: "
        f"{plan.checkpoint / GIB:.2f} GiB, {plan.checkpoint_seconds:.1f} s at {config.plan.disk_gbps:g} GB/s.",
    ]


def _remedies(plan: Plan) -> Table:
    table = Table(title="What would need less, about", title_justify="left")
    table.add_column("change")
    table.add_column("GiB", justify="right")
    for remedy in plan.remedies:
        table.add_row(remedy.change, f"{remedy.gib:.2f}")
    return table
