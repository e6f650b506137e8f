"""Arguments and options that several commands share, as click decorators."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import wraps
from pathlib import Path
from typing import Any

import click

from strop.graph import ENCODINGS

PATH = click.Path(path_type=Path)
Command = Callable[..., Any]
# One number for all inputs, or a number for each by its name.
PerInput = float | dict[str, float]


class NumberPerInput(click.ParamType):  # type: ignore[type-arg]  # generic for the type checker alone
    """A number for all inputs, or `NAME=NUMBER,NAME=NUMBER`; fractions as 1/16."""

    name = "number"

    def __init__(self, kind: type[int] | type[Fraction]) -> None:
        self.kind = kind

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> PerInput:
        try:
            if "=" not in str(value):
                return self._number(value)
            pairs = (part.rpartition("=") for part in str(value).split(","))
            return {name.strip(): self._number(number) for name, _, number in pairs}
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is neither a number nor NAME=NUMBER,NAME=NUMBER", parameter, context)

    def _number(self, text: Any) -> float:
        number = self.kind(text)
        return number if isinstance(number, int) else float(number)


def model_argument(function: Command) -> Command:
    """Add the argument MODEL."""
    return click.argument("model", type=PATH)(function)


def data_option(function: Command) -> Command:
    """Add --data, required."""
    text = "Frames: .npz, HDF5 or Zarr with x (and y), .npy, or Keras's mnist.npz."
    return click.option("--data", type=PATH, required=True, help=text)(function)


def labels_option(function: Command) -> Command:
    """Add --labels."""
    text = "Labels: .npy, or y of any file that --data takes; by default y of --data."
    return click.option("--labels", "labels_file", type=PATH, help=text)(function)


def limit_option(function: Command) -> Command:
    """Add --limit."""
    return click.option("--limit", type=click.IntRange(min=1), help="Use only the first N frames.")(function)


def worker_options(function: Command) -> Command:
    """Add --workers and --scheduler, which reach the command as one dict, `over`, for the functions that it calls."""

    @wraps(function)
    def command(*args: Any, workers: int | None, scheduler: str | None, **kwargs: Any) -> Any:
        if workers is not None and scheduler is not None:
            raise click.UsageError("give either --workers, to start processes here, or --scheduler")
        return function(*args, over={"workers": workers, "client": scheduler}, **kwargs)

    text = "Have so many processes on this machine take the frames. [this process does]"
    wrapped: Command = click.option("--workers", type=click.IntRange(min=1), metavar="N", help=text)(command)
    text = "Have the workers of the Dask scheduler at this address (tcp://host:8786) take the frames."
    return click.option("--scheduler", metavar="ADDRESS", help=text)(wrapped)


def encoding_options(function: Command) -> Command:
    """Add --encoding, and --bits, --step and --offset, which reach the command as one dict, `planes`."""

    @wraps(function)
    def command(
        *args: Any, bits: PerInput | None, step: PerInput | None, offset: PerInput | None, **kwargs: Any
    ) -> Any:
        values = {"bits": bits, "step": step, "offset": offset}
        planes = {what: value for what, value in values.items() if value is not None}
        return function(*args, planes=planes, **kwargs)

    text = "How frames enter; a saved graph carries its own."
    wrapped: Command = command
    for option in (
        click.option("--encoding", type=click.Choice(ENCODINGS), default="host", show_default=True, help=text),
        click.option(
            "--bits", type=NumberPerInput(int), help="bitplane: planes of each value, or INPUT=N,INPUT=N. [8]"
        ),
        click.option(
            "--step", type=NumberPerInput(Fraction), help="bitplane: what frames are multiples of. [1/(2^bits-1)]"
        ),
        click.option("--offset", type=NumberPerInput(Fraction), help="bitplane: the least value of a frame. [0]"),
    ):
        wrapped = option(wrapped)
    return wrapped


def reading_options(function: Command, dt: str = "--dt") -> Command:
    """Add --dt (or another name for it) and --memoryless, which reach the command as one dict, `reading`."""

    @wraps(function)
    def command(*args: Any, read_dt: float | None, memoryless: bool, **kwargs: Any) -> Any:
        reading = {} if read_dt is None else {"dt": read_dt}
        return function(*args, reading=reading | ({"memoryless": True} if memoryless else {}), **kwargs)

    step = "MODEL is a .nir file: the step that its neurons take, in the unit of their time constants."
    rest = "MODEL is a .nir file: take neurons that keep their potential as if every frame found them at rest."
    wrapped: Command = click.option("--memoryless", is_flag=True, help=rest)(command)
    return click.option(dt, "read_dt", type=float, help=step)(wrapped)


class NumberOrFill(click.ParamType):  # type: ignore[type-arg]  # generic for the type checker alone
    """A number, or "fill"."""

    name = "number"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int | str:
        if value == "fill":
            return "fill"
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a number of at least 1 nor fill", parameter, context)
        return int(value)


def copies_option(function: Command) -> Command:
    """Add --copies, a number, "fill" or None."""
    text = (
        "Copies of the network side by side, to which frames are dealt out; fill: as many as a SpiNNaker board takes."
    )
    return click.option("--copies", type=NumberOrFill(), metavar="K|fill", help=text)(function)


def decision_option(function: Command) -> Command:
    """Add --decision."""
    text = "Where the winning class is found: by the read-out on the host, or by two more layers of spikes."
    return click.option(
        "--decision", type=click.Choice(["host", "spikes"]), default="host", show_default=True, help=text
    )(function)


def json_option(function: Command) -> Command:
    """Add --json, which reaches the command as `json_file`."""
    text = "Write the result to this file as JSON."
    return click.option("--json", "json_file", type=PATH, callback=check_file, help=text)(function)


def check_file(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a place where no file can be written before any work is done, not after."""
    if path is not None:
        from strop.graph.files.atomic import check_writable

        check_writable(path)
    return path


def report_option(function: Command, page: str = "report.html") -> Command:
    """Add --report, which reaches the command as `report_folder`; `page` is the file written there."""
    text = f"Write {page} to this folder."
    return click.option("--report", "report_folder", type=PATH, callback=_check_folder, help=text)(function)


def _check_folder(context: click.Context, option: click.Parameter, folder: Path | None) -> Path | None:
    """Refuse a file before any work is done, not after."""
    if folder is not None:
        from strop.display import check_folder

        check_folder(folder)
    return folder
