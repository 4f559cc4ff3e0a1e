"""``python -m pilothouse.specialists.starter``: train the starter family again from the data folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .recipe import run
from .work import Work

FAMILY = Path(__file__).with_name("family")


def main() -> None:
    """Run the recipe; every finished step is skipped, so a killed run is resumed by the same command."""
    parser = argparse.ArgumentParser(prog="pilothouse.specialists.starter", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of sources")
    parser.add_argument("--work", type=Path, default=Path("runs/starter"), help="streams, checkpoints, log")
    parser.add_argument("--out", type=Path, default=FAMILY, help="the family folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="trunk folder to go on from, instead of random weights")
    parser.add_argument("--until", help="stop after this step")
    asked = parser.parse_args()
    if not asked.data.is_dir():
        parser.error(f"--data {asked.data} is no folder: name the folder that holds text/, math/, probing/ …")
    run(Work(asked.work, asked.data, asked.seed, sys.stderr), asked.out, asked.until, asked.start)


if __name__ == "__main__":
    main()
