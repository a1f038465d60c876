"""Monitors: the numbers of the iterations -> early warnings. To import this package registers the built-in ones.

Each file is named after the monitor that it registers:

    entropy.py      entropy of a space collapses or explodes    mismatch.py     sampler and trainer disagree
    logprob.py      log-probability of a space falls            ratio.py        new / old probabilities far from 1
    reward.py       the reward falls below its best             gradient.py     a gradient far larger than those before
    length.py       responses grow several times longer         verifier.py     checks fail
    truncation.py   responses are cut off                       throughput.py   tokens a second fall
    signal.py       all groups without a signal                 length_reward.py  the reward follows the length

monitor.py has the base class and what it returns; series.py reads a metric's values out of the iterations.
`dsrl.runs.monitoring` calls them in a run.
"""

from dsrl.monitors.entropy import Entropy
from dsrl.monitors.gradient import Gradient
from dsrl.monitors.length import Length
from dsrl.monitors.length_reward import LengthReward
from dsrl.monitors.logprob import Logprob
from dsrl.monitors.mismatch import Mismatch
from dsrl.monitors.monitor import EarlyWarning, Monitor
from dsrl.monitors.ratio import Ratio
from dsrl.monitors.reward import Reward
from dsrl.monitors.signal import Signal
from dsrl.monitors.throughput import Throughput
from dsrl.monitors.truncation import Truncation
from dsrl.monitors.verifier import Verifier

__all__ = [
    "EarlyWarning",
    "Entropy",
    "Gradient",
    "Length",
    "LengthReward",
    "Logprob",
    "Mismatch",
    "Monitor",
    "Ratio",
    "Reward",
    "Signal",
    "Throughput",
    "Truncation",
    "Verifier",
]
