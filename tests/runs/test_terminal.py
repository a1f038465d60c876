"""What is shown in a terminal."""

import io

from rich.console import Console

from dsrl.runs.terminal import progress_bar


def test_the_time_left_is_known_where_an_iteration_takes_minutes():
    bar = progress_bar(Console(file=io.StringIO()))
    now = 0.0
    bar.get_time = lambda: now
    task = bar.add_task("training", total=10, status="")
    for _ in range(3):
        now += 120
        bar.update(task, advance=1)
    assert bar.tasks[0].time_remaining == 7 * 120
