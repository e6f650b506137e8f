"""Scripts run as `__main__`, each in a process of its own that is forked where Keras is imported already.

Importing Keras and TensorFlow takes longer than most of the scripts do. Python's own fork server imports them once; it
computes nothing, so TensorFlow has not yet begun the threads that a fork would lose.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

# Windows has no fork: there each script imports Keras by itself.
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_PROCESSES: Any = multiprocessing.get_context(_METHOD)
_PROCESSES.set_forkserver_preload(["keras"])


def run_script(
    script: Path, *arguments: object, folder: Path, digits: Path, timeout: float = 900.0
) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder`, as `python -W ignore script arguments` does.

    What `train_digits` gives for one set of arguments is always the same network, and so is trained once and kept in
    the folder `digits`.
    """
    words = [str(script), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as temporary:
        outputs = Path(temporary, "out"), Path(temporary, "error")
        process = _PROCESSES.Process(target=_main, args=(words, folder, digits, outputs))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        texts = [path.read_text("utf-8", "replace") for path in outputs]
        return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _main(words: list[str], folder: Path, digits: Path, outputs: tuple[Path, Path]) -> None:
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    warnings.simplefilter("ignore")
    _train_digits_once(digits)
    sys.argv, sys.path[:0] = words, [str(Path(words[0]).parent)]
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a process of `multiprocessing` ends without them


def _train_digits_once(digits: Path) -> None:
    import strop
    from strop.keras import recipes

    train = recipes.train_digits

    def trained(**settings: Any) -> recipes.TrainedModel:
        name = "-".join(f"{key}_{value}" for key, value in sorted(settings.items()))
        kept = digits / name
        if kept.is_dir():
            record = json.loads((kept / "record.json").read_text("utf-8"))
            model = strop.load_model(kept / "model.keras")
            return recipes.TrainedModel(model, *recipes.load_digits()[2], record["history"], record["accuracy"])
        found = train(**settings)
        draft = Path(tempfile.mkdtemp(dir=digits))
        found.model.save(draft / "model.keras")
        (draft / "record.json").write_text(json.dumps({"history": found.history, "accuracy": found.accuracy}), "utf-8")
        if not kept.is_dir():  # by another process, in the meantime
            draft.rename(kept)
        return found

    recipes.train_digits = trained
