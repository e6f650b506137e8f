"""The process of the command line: runs a command, says what went wrong in one line, ends with an exit code.

Exit codes: 0 passed, 1 faults found, 2 bad input or a refused model (one line on standard error), 3 a backend is
missing.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, NoReturn

import click

from strop.cli.signals import takes_signals
from strop.errors import StropError
from strop.graph.files.drafts import LOCK

_LONGEST_LINE = 2000


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    from strop.cli.app import app

    # Python has no streams where they were closed when it began (`2>&-`).
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (to the end of the process)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        with redirect_stdout(_Output(sys.stdout)):
            code = app(args=arguments, standalone_mode=False, prog_name="strop")
    except StropError as error:
        _say(str(error))
        code = error.exit_code
    except click.exceptions.Abort:
        _say("interrupted")
        code = 130
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        code = 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        _say(error.format_message() + (f" (see '{context.command_path} --help')" if context else ""))
        code = 2
    except SystemExit as end:
        # Not strop's: of a simulator, or of a backend of somebody else's. Nothing has been found.
        _say(f"something that strop called has ended the process (SystemExit: {end.code})")
        code = 2
    except BrokenPipeError as error:
        _say(f"a pipe to another process broke ({error})")
        code = 2
    except OSError as error:
        _say(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        code = 2
    _leave(int(code or 0))


class _Output:
    """Standard output, whose reader may go away (`strop verify ... | head`): the command goes on to its exit code."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._forgiving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiving():
            self._stream.flush()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _leave(code: int) -> NoReturn:
    """End the process; at once, where it is the command line's own.

    While Python takes itself apart, which TensorFlow and the simulators make last for seconds, it has given signals
    back to the system: an interrupt would end it with another exit code, and destructors may print what they like.
    """
    if not takes_signals():
        sys.exit(code)
    with LOCK:
        pass
    with suppress(Exception):
        atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _say(message: str) -> None:
    line = " ".join(message.split())
    # A damaged file can put a text of any length into a message.
    line = line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
    with LOCK:  # what fails because the process is being ended is not said
        print(f"strop: {line}", file=sys.stderr)
