"""How the ranks of a run share the model and the work, and how they end together.

collectives.py                             values of all ranks: sums, largest, rows in order
plain_names.py                             names of parameters without FSDP1's wrappers
sharding.py                                full tensors, norms and copies of weights that ranks hold parts of
strategy.py                                what every strategy adds to Lightning's: placing models, checkpoints
data_parallel.py, fsdp.py, fsdp1.py        the strategies: one process, DDP, FSDP2, FSDP1
choose.py                                  from `trainer.strategy` to one of them
first_process.py                           which process is the first, before there are ranks
launcher.py                                start a node's processes, and end all if one ends badly
network.py                                 the network interface between nodes
failing.py                                 which ranks save the run after a failure
watchdog.py                                end the run, on every node, when a rank dies, hangs or fails
"""
