"""How things lie on disk: complete or not there at all, and readable without running code.

    disk_errors.py        say why something cannot be written: the path and the system's reason
    folder_lock.py        own a folder, so that no other process writes to it
    atomic.py             write a file or folder beside its place, then move it there
    checkpoint_files.py   a run's checkpoint, as one file or as a folder with a part from each rank
    safetensors_files.py  named tensors of a folder, of which each rank reads the parts that it needs
    rollout_files.py      the recorded rollouts of an iteration, a file of each rank

This room knows nothing of models, strategies or runs: `dsrl.models`, `dsrl.parallel`, `dsrl.runs` and
`dsrl.evaluation` use it.
"""
