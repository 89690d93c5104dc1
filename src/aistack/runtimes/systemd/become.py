"""`python -m aistack.runtimes.systemd.become [--secret NAME CREDENTIAL FORM]... -- PROGRAM...`

Puts secrets that systemd hands over as credentials into the environment and becomes the program, for
programs that take them in no other way.
"""

import argparse
import os
from pathlib import Path

from aistack.system.run import replace_process


def main() -> None:
    """Does not return."""
    parser = argparse.ArgumentParser(prog="become")
    parser.add_argument("--secret", nargs=3, action="append", default=[], metavar=("NAME", "CREDENTIAL", "FORM"))
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()
    folder = Path(os.environ["CREDENTIALS_DIRECTORY"])
    secrets = {
        name: form.replace("{secret}", (folder / credential).read_text().strip())
        for name, credential, form in arguments.secret
    }
    replace_process(arguments.program, {**os.environ, **secrets})


if __name__ == "__main__":
    main()
