"""What happens when the user interrupts the command line: no traceback, and no half-written file.

SIGINT and SIGTERM could arrive at any moment, also inside a simulator or TensorFlow, which swallow exceptions or
replace Python's handlers. So nothing is raised: a thread of its own removes the drafts of files that are being written
(`strop.graph.files.drafts`), ends the child processes, and ends this one with 130 or 143. `strop/__init__.py` starts it
before anything else is imported, in the processes of the command line alone: a library leaves the signals of a script
to the script. So this module imports nothing of strop's.
"""

from __future__ import annotations

import os
import sys
import threading

_OWNERS: set[int] = set()
_SAID = {2: "interrupted", 15: "terminated"}  # SIGINT, SIGTERM


def is_command_line() -> bool:
    """Tell whether this process is `strop` or `python -m strop`."""
    if sys.argv[:1] == ["-m"]:  # while Python looks for the module
        words = [word for word in sys.orig_argv[1:] if word == "-m" or not word.startswith("-")]
        return words[:2] == ["-m", "strop"]
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    return name in ("strop", "strop.exe")


def takes_signals() -> bool:
    """Tell whether `end_on_signals` was called in this process."""
    return os.getpid() in _OWNERS


def end_on_signals() -> None:
    """Start the thread that ends the process on SIGINT and SIGTERM; where the system has pipes for signals."""
    if os.name == "nt":
        return
    import signal

    owner = os.getpid()
    _OWNERS.add(owner)
    # A stream that was closed (`2>&-`) leads nowhere, instead of to the first file or pipe that is opened.
    while (spare := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(spare)
    # The terminal's: 2 leads elsewhere while a library is kept quiet (`strop.cli.noise`).
    errors = os.dup(2)

    def left_to_the_thread(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a fork has no such thread
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    # Written to by the handler in C, whoever replaces the one in Python.
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, left_to_the_thread)

    def wait() -> None:
        while True:
            for number in os.read(receiver, 1):
                if number in _SAID:
                    _end(number, errors)

    threading.Thread(target=wait, name="strop-signals", daemon=True).start()


def _end(number: int, errors: int) -> None:
    import shutil
    from contextlib import suppress

    # Whoever has written a file has imported it; importing it here could wait for an import in another thread.
    files = sys.modules.get("strop.graph.files.drafts")
    if files is not None:
        # From here on nothing is said of what fails because the process is being ended.
        files.LOCK.acquire(timeout=10)
    with suppress(Exception):
        import psutil

        # They could go on to write to what is removed.
        children = psutil.Process().children(recursive=True)
        for child in children:
            child.kill()
        psutil.wait_procs(children, 1)
    if files is not None:
        for path in files.drafts():
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with suppress(Exception):
        show_cursor = "\x1b[?25h" if os.isatty(errors) else ""  # a progress bar hides it
        os.write(errors, f"{show_cursor}strop: {_SAID[number]}\n".encode())
    os._exit(128 + number)
