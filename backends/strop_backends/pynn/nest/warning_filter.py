"""`quiet_nest`: holds back warnings of NEST that PyNN causes at every call, and no user of strop can act on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_nest() -> Iterator[None]:
    """Hold back what PyNN 0.13 makes NEST 3.10 warn of at every call."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Provided for backward compatibility only")
        warnings.filterwarnings("ignore", message=r"\s*(Get|Set)Status\(\) is deprecated")
        warnings.filterwarnings(
            "ignore", message=r"Cannot find nest-config|Problem running cmake|Unable to (compile|install)"
        )
        yield
