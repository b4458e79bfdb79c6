"""`homeroom`, the command line. Each module of this package adds its commands to the one app.

Exit status: 0 done, 1 refused or failed with a reason on stderr, 2 wrong usage, 130 interrupted.
"""

import importlib
import logging
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import metadata

from cyclopts import App, CycloptsError

from services.cli.client import Failed, err, explain
from shared.errors import Unavailable

PROJECT = "homeroom"


def _version() -> str:
    try:
        return metadata.version(PROJECT)
    except metadata.PackageNotFoundError:  # an image carries the sources alone
        return "not installed as a package"


app = App(name=PROJECT, help="Run, ask and repair Homeroom.", version=_version)


def _add_commands() -> None:
    for module in pkgutil.iter_modules(__path__):
        if module.name != "__main__":
            importlib.import_module(f"{__name__}.{module.name}")
    # It tells of every try; we tell once what is away.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command (of `words`, or of the command line) and exit with its status."""
    try:
        _add_commands()
        app(words, exit_on_error=False, print_error=True, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        err.print(f"How it is used: {' '.join((PROJECT, *(error.command_chain or ())))} --help", markup=False)
        sys.exit(2)
    except Failed as failure:
        explain(failure)
        sys.exit(2 if failure.reason == "wrong_usage" else 1)
    except Unavailable as away:
        explain(Failed("unavailable", str(away)))
        sys.exit(1)
    except BrokenPipeError:  # who read this has heard enough; nor shall the interpreter complain when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        explain(Failed("file_unusable", str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
