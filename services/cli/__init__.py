"""`homeroom`, the command line: which module has the command behind each word. Only that one is loaded.

Exit status: 0 done, 1 refused or failed with a reason on stderr, 2 wrong usage, 130 interrupted.
"""

import logging
import os
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


# The command line's words, and where what they mean is: a function, or an app with words of its own.
COMMANDS = {
    "up": "stack:up",
    "down": "stack:down",
    "status": "stack:status",
    "logs": "stack:logs",
    "clean": "stack:clean",
    "demo": "demo:demo",
    "sample": "sample:sample_people",
    "doctor": "doctor:doctor",
    "account": "accounts:account",
    "refusal": "accounts:refusal",
    "timeline": "accounts:timeline",
    "person": "directory:person",
    "unclaimed": "directory:unclaimed",
    "activity": "directory:activity",
    "reset": "resets:reset",
    "import": "imports:imports",
    "audit": "audit:audit",
    "application": "applications:application",
    "lag": "operations:lag",
    "dead-letters": "operations:dead_letters",
    "rebuild": "operations:rebuild",
    "replay": "operations:replay",
    "keys": "keys:keys",
    "migrate": "setup:migrate",
    "policy": "setup:policy",
    "client": "setup:client",
    "district": "setup:district",
    "topics": "setup:topics",
    "history": "setup:history",
}

app = App(name=PROJECT, help="Run, ask and repair Homeroom.", version=_version)
for word, place in COMMANDS.items():
    app.command(f"{__name__}.{place}", name=word)
# It tells of every try; we tell once what is away.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command (of `words`, or of the command line) and exit with its status."""
    words = sys.argv[1:] if words is None else words
    try:
        if not words or words[0] not in COMMANDS:  # the list of all tells what each does
            for word in COMMANDS:
                app[word]
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
