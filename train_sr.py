"""Train a super-resolution model: `python train_sr.py -opt options/train/....yml` (the same as `mvmsr train`)."""

import sys

from mvmsr.cli import app

if __name__ == "__main__":
    app(["train", *sys.argv[1:]], prog_name="train_sr.py")
