"""Train in two phases from Python: `python examples/ten_lines.py [KEY=VALUE ...]`."""

import sys

from dsrl import compose, fit

run = fit(compose(["objective=nsr_prerl", "+phase2=grpo", *sys.argv[1:]]))
for row in run.metrics:
    print(row["iteration"], row["objective"], f"{row['reward/mean']:.3f}")
print(run.folder, run.policy.model.num_parameters())
