"""Train: `python train.py objective=nsr_prerl +phase2=grpo`. See `python train.py --help`."""

from dsrl.train import main

if __name__ == "__main__":
    main()
