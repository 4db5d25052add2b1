"""Grows the corpus by coverage guidance: `python -m tests.fuzz.guided form FOLDER -max_total_time=60`.

The folder takes what covers something new. `… form CORPUS FOLDER -merge=1` then moves into CORPUS what it lacks. It
needs atheris, which has wheels for few versions of Python and so is no dependency: `pip install atheris`.
"""

import sys

import atheris

# Instrumented as they are imported, so nothing may import them before.
with atheris.instrument_imports(include=["app", "werkzeug.sansio", "werkzeug.http", "json"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Hand the rest of the command line to libFuzzer."""
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
