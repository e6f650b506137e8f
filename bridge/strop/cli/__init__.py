"""The command line: `strop demo | train | inspect | verify | predict | export | backends`.

This module imports nothing: `strop` imports `strop.cli.signals` before all else, and with it this package.
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code; see `strop.cli.process`."""
    from strop.cli.process import run

    run(arguments)
