"""From the words of a command line to a checked `RunConfig`. Nothing here loads a model, or reads a run or checkpoint.

schema/              the typed keys, their defaults, and what `--help` says of them
store.py              the registry as Hydra sees it
command_line.py       the words, parsed and spelled out for Hydra
compose.py            the words composed into a typed tree
explain.py            what is wrong with the words, in the user's terms
renamed.py, trainer_arguments.py    keys of earlier versions, and arguments of Lightning that other keys say
run_config.py         the tree with its parts built
checks.py             what must hold between fields
help.py               the text of `--help`
"""
