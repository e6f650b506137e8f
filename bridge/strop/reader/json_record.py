"""`json_record`: a record out of the JSON text in a model file."""

from __future__ import annotations

import json
from typing import Any

from strop.errors import ModelFileError
from strop.reader.naming import brief


def json_record(text: str | bytes, name: str, source: str) -> dict[str, Any]:
    """Return the record that `text` holds.

    Parameters
    ----------
    text : str or bytes
    name, source : str
        What the text is, and the file that it is in, for the messages.

    Raises
    ------
    ModelFileError
        If it is no JSON, or no record.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{source}: {name} in it is damaged: {brief(error)}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{source}: {name} in it is no record, but {type(value).__name__}")
    return value
