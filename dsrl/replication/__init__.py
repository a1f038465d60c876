"""The paper's four claims, measured: which runs that takes, what is read from them, and what follows.

    settings.py    what a command line asks for: quick, full or map, worlds, seeds, learning rates
    arms.py        what is compared: the command line of each arm, and how its learning rate is chosen
    jobs.py        runs as processes of their own, several at once, that go on after a kill
    measured.py    what a run measured, question by question
    bootstrap.py   intervals over seeds and then questions
    verdicts.py    reproduced, contradicted, equivalent or undecided
    claims.py      the four claims: endpoint, estimate, verdict
    study.py       the order of things: tune, run, measure, write
    regime_map.py  where dsrl leads over grpo, cell by cell
    page.py        claims.html

docs/claims.md says what was fixed before anything was measured, and what came out.
"""
