"""Training checkpoints on disk: model, optimiser and state of the sharpening, complete after every epoch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from strop.errors import ModelFileError
from strop.graph.files.atomic import write_text

_FORMAT = 1
_STATE = "state.json"


class TrainingCheckpoint:
    """A folder that holds the last finished epoch of a training, and its best one.

    ``state.json`` names the files of weights that belong to it. It is written last and renamed into place, so a
    training that is killed at any moment leaves the epoch before.

    Parameters
    ----------
    folder : str or path-like
        Made where it is missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def read(self) -> dict[str, Any] | None:
        """Return the state, or None where there is none yet.

        Raises
        ------
        ModelFileError
            If the folder holds something else.
        """
        path = self.folder / _STATE
        if not path.is_file():
            return None
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelFileError(f"{path} cannot be read ({error}); delete {self.folder} to start again") from error
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise ModelFileError(f"{path} is no checkpoint of this version of strop; delete {self.folder} or keep both")
        return state

    def write(self, model: Any, epoch: int, best_epoch: int | None, state: dict[str, Any]) -> None:
        """Save `model`, its optimiser and `state` after `epoch`; keep the weights of `best_epoch` beside them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = self._weights(epoch)
        # The ending tells Keras the format, so the temporary name has it too.
        temporary = weights.with_name(f".writing.{weights.name}")
        model.save_weights(temporary, overwrite=True)
        os.replace(temporary, weights)
        record = {"format": _FORMAT, "epoch": epoch, "best_epoch": best_epoch, **state}
        write_text(self.folder / _STATE, json.dumps(record, indent=1) + "\n")
        needed = {weights, self._weights(epoch if best_epoch is None else best_epoch)}
        for path in self.folder.glob("epoch-*.weights.h5"):
            if path not in needed:
                path.unlink(missing_ok=True)

    def load(self, model: Any, epoch: int) -> None:
        """Put the weights of `epoch` and the state of its optimiser into `model`.

        Raises
        ------
        ModelFileError
            If the file is missing or damaged, or belongs to another model or optimiser.
        """
        path = self._weights(epoch)
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelFileError(
                f"{path} does not fit this model and optimiser ({reason}); give another checkpoint folder, "
                f"or delete {self.folder} to start again"
            ) from error

    def _weights(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.weights.h5"
