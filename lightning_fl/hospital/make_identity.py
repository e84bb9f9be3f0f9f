"""Make a site's identity: `python -m lightning_fl.hospital.make_identity A.identity.pem`."""

import argparse
import sys
from pathlib import Path

from lightning_fl.aggregation.ring.identity import SUFFIX, make


def main() -> None:
    """Write the key, and print the fingerprint that the others pin."""
    parser = argparse.ArgumentParser(prog="python -m lightning_fl.hospital.make_identity")
    parser.add_argument("file", type=Path, help=f"file to write, e.g. A{SUFFIX}; stays at the site")
    try:
        sys.stdout.write(make(parser.parse_args().file) + "\n")
    except FileExistsError as error:
        parser.error(f"{error.filename} exists and is never replaced")
    except OSError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
