"""`python -m serve`: the API process of one home."""

import argparse
import gc
from pathlib import Path


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m serve", description=__doc__)
    arguments.add_argument("--home", type=Path, help="folder of all state")
    home = arguments.parse_args().home
    # What is imported stays: searching it for garbage again and again takes a fifth of the start.
    gc.disable()
    from feedback.settings import load_settings
    from serve.process import run

    gc.enable()
    run(load_settings(home=home))


if __name__ == "__main__":
    main()
