"""`homeroom`, the command line: every module of this package adds its commands to one app."""

from cyclopts import App

app = App(name="homeroom", help="Run, ask and repair Homeroom.")


def main() -> None:
    app()
