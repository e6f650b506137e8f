"""Opens damaged copies of files of every format, and says which end in anything but a `StropError` or an accepted file.

    PYTHONPATH=tests/support python benchmarks/fuzz_files.py --count 2000 --seed 1 [--formats strop,nir,npz] [--keep F]

For each format small files are written, and damaged with `tests/support/damage.py`: random bytes, cut ends, and edits
that know the format. A worker process opens each copy as the command line does, and lowers what makes a model. It is
kept for the next copy, and started again when it ends. Findings are: an exception that is no `StropError`, a message
of several lines, a signal, more than 20 s of the CPU, more than 2 GB. They are printed with the seed and the number
that make them again (`--first`), and `--keep` puts their files into a folder. Ends with 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil

SECONDS, BYTES = 20.0, 2 << 30
ROOT = Path(__file__).resolve().parents[1]
SUFFIX = {
    "strop": ".strop",
    "nir": ".nir",
    "keras": ".keras",
    "keras2": ".keras",
    "h5": ".h5",
    "h5-keras3": ".h5",
    "h5-keras2": ".h5",
    "savedmodel": "",
    "savedmodel-old": "",
    "npz": ".npz",
    "npy": ".npy",
    "h5-data": ".h5",
    "zarr": "",
    "certificate": ".json",
    "folder": "",
}


def write_seeds(folder: Path) -> dict[str, list[Path]]:
    """Write good files, by format; some formats have several."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import keras
    from graphs import image_network, skip_network

    import strop
    from strop.keras import SoftmaxDecode, SpikingBReLU, key_generator
    from strop_backends.nir import write

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    seeds: dict[str, list[Path]] = {name: [] for name in SUFFIX}
    for number, graph in enumerate((skip_network(rng), image_network(rng), image_network(rng, "bitplane"))):
        graph.save(folder / f"{number}.strop")
        write(graph, folder / f"{number}.nir")
        seeds["strop"].append(folder / f"{number}.strop")
        seeds["nir"].append(folder / f"{number}.nir")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = layers.BatchNormalization()(layers.Conv2D(3, 3, strides=2)(image))
    x = layers.Flatten()(layers.MaxPooling2D()(SpikingBReLU(1.0)(x)))
    a, b = (SpikingBReLU(1.0)(layers.Dense(6)(x)) for _ in range(2))
    functional = keras.Model(image, SoftmaxDecode(key_generator(3, 12))(layers.Concatenate()([a, b])))
    chain = keras.Sequential([keras.Input((6,)), layers.Dense(5), SpikingBReLU(1.0), layers.Dense(3)])
    for name, model in (("functional", functional), ("chain", chain)):
        for kind, suffix in (("keras", "keras"), ("h5-keras3", "h5")):
            model.save(folder / f"{name}.{suffix}")
            seeds[kind].append(folder / f"{name}.{suffix}")
    with zipfile.ZipFile(ROOT / "tests/unit/reader/data/old_models.zip") as archive:
        archive.extractall(folder / "old")
    seeds["keras2"].append(folder / "old/tf_2_13_1.keras")
    seeds["h5-keras2"] += [folder / "old/keras_2_2_4.h5", folder / "old/tf_2_13_1.h5"]
    seeds["savedmodel"].append(folder / "old/tf_2_13_1")
    seeds["savedmodel-old"].append(folder / "old/tf_2_3_4")
    genuine = Path(os.environ.get("STROP_SHARED", ROOT / "../shared")) / "models/original_whetstone_mlp.h5"
    seeds["h5"] += [genuine if genuine.is_file() else folder / "old/keras_2_2_4.h5"]
    frames = rng.integers(0, 256, (5, 6, 6, 1)).astype(np.uint8)
    np.savez_compressed(folder / "data.npz", x=frames, y=np.arange(5))
    np.savez(folder / "several.npz", x_1=frames / 255.0, x_b=frames, y_1=np.eye(5))
    seeds["npz"] += [folder / "data.npz", folder / "several.npz"]
    np.save(folder / "data.npy", frames)
    seeds["npy"].append(folder / "data.npy")
    _write_rows(folder, seeds, frames)
    whole = strop.quantize(skip_network(rng), "spinnaker")
    strop.certify(whole, "spinnaker").save(folder / "certificate.json")
    seeds["certificate"].append(folder / "certificate.json")
    strop.export(whole, "pynn", folder / "exported")
    seeds["folder"].append(folder / "exported")
    return seeds


def _write_rows(folder: Path, seeds: dict[str, list[Path]], frames: np.ndarray) -> None:
    """Write files of frames whose rows are read in blocks."""
    import h5py
    import zarr

    with h5py.File(folder / "data.h5", "w") as file:
        file.create_dataset("x", data=frames, chunks=(2, *frames.shape[1:]), compression="gzip")
        file["y"] = np.arange(len(frames))
    seeds["h5-data"].append(folder / "data.h5")
    for version in (2, 3):
        group = zarr.open_group(str(folder / f"{version}.zarr"), mode="w", zarr_format=version)
        group.create_array("x", shape=frames.shape, chunks=(2, *frames.shape[1:]), dtype=frames.dtype)[:] = frames
        seeds["zarr"].append(folder / f"{version}.zarr")


DAMAGED_IN_FOLDERS = (".pb", ".index", ".data-00000-of-00001", ".npz", ".json")


def write_damaged(good: Path, out: Path, seed: int, kind: str) -> None:
    """Write a damaged copy; of a folder one file is damaged."""
    from damage import damaged

    rng = np.random.default_rng(seed)
    if good.is_file():
        out.write_bytes(_changed(good.read_bytes(), good.suffix, rng, damaged))
        return
    shutil.copytree(good, out)
    names = sorted(p for p in out.rglob("*") if p.is_file() and (kind == "zarr" or p.name.endswith(DAMAGED_IN_FOLDERS)))
    if kind == "folder":
        names = [p for p in names if p.name in ("certificate.json", "network.json", "network.npz")]
    chosen = names[int(rng.integers(len(names)))]
    chosen.write_bytes(_changed(chosen.read_bytes(), chosen.suffix, rng, damaged))


def _changed(data: bytes, suffix: str, rng: Any, damaged: Any) -> bytes:
    while True:
        try:
            out: bytes = damaged(data, suffix, rng)
        except Exception:  # an edit that the format does not allow: another one
            continue
        if out != data:
            return out


# The worker
# ---------------------------------------------------------------------------------------------------


def open_file(kind: str, path: Path) -> None:
    """Open a file as strop's users do."""
    from strop.errors import StropError

    if kind in ("npz", "npy", "h5-data", "zarr"):
        from strop.cli.data_files import read_data

        for part in read_data(path):
            for array in part.values() if isinstance(part, dict) else () if part is None else (part,):
                np.asarray(array)
    elif kind == "certificate":
        from strop.quantization.certificate import Certificate

        str(Certificate.load(path))
    elif kind == "folder":
        from strop.export.templates import check_certificate

        sys.argv = ["check_certificate.py", str(path)]
        code = check_certificate.main()
        if code == 2:
            raise StropError("invalid")
    else:
        from strop.costs.inspection import inspect
        from strop.running.model_argument import open_file as opened

        found = opened(path)
        with contextlib.suppress(StropError):  # read, and then refused for what the network is
            str(inspect(found))


def work() -> None:
    """Open the files that are named on standard input, one a line, and answer what came of it."""
    answers = os.fdopen(os.dup(1), "w")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    import traceback
    import warnings

    warnings.simplefilter("ignore")
    from strop.errors import StropError

    for line in sys.stdin:
        kind, path = json.loads(line)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        start = _cpu()
        answer: dict[str, Any] = {"what": "accepted"}
        try:
            open_file(kind, Path(path))
        except StropError as error:
            text = str(error)
            answer = {"what": "refused", "message": text}
            if "\n" in text or "\x1b" in text:
                answer = {"what": "message of several lines", "detail": text[:2000]}
        except BaseException as error:
            answer = {"what": type(error).__name__, "detail": traceback.format_exc()[-3000:]}
        answer["seconds"] = _cpu() - start
        answer["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _cpu() -> float:
    """Return the seconds of the CPU that this process and its children, ended or not, have taken."""
    taken = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # The child that reads HDF5 is kept from file to file.
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            taken += sum(child.cpu_times()[:2])
    return taken


class Worker:
    """A worker process; a new one where the last has ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def ask(self, kind: str, path: Path) -> dict[str, Any]:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--work"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=_low,
            )
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(SECONDS * 6):
                process.kill()
                process.wait()
                return {"what": "no answer", "detail": f"after {SECONDS * 6} s"}
        answer = process.stdout.readline()
        if not answer:
            code = process.wait()
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return {"what": name, "detail": "the process ended"}
        found: dict[str, Any] = json.loads(answer)
        if found["seconds"] > SECONDS:
            return {"what": "slow", "detail": f"{found['seconds']:.0f} s"}
        if found["bytes"] > BYTES:
            return {"what": "memory", "detail": f"{found['bytes'] >> 20} MiB"}
        return found


def _low() -> None:
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fuzz(formats: list[str], numbers: range, seed: int, keep: Path | None) -> int:
    """Open the damaged files of these numbers of each format; return how many findings there were."""
    findings = 0
    worker = Worker()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = write_seeds(folder / "good")
        for kind in formats:
            tally: Counter[str] = Counter()
            begin = time.perf_counter()
            for number in numbers:
                good = seeds[kind][number % len(seeds[kind])]
                draw = random.Random(f"{kind} {seed} {number}").getrandbits(60)
                out = folder / f"damaged{SUFFIX[kind]}"
                write_damaged(good, out, draw, kind)
                answer = worker.ask(kind, out)
                tally[answer["what"]] += 1
                if answer["what"] not in ("accepted", "refused"):
                    findings += 1
                    print(f"{kind} --seed {seed} number {number} ({good.name}): {answer['what']}")
                    print("    " + str(answer.get("detail", "")).replace("\n", "\n    "), flush=True)
                    if keep is not None:
                        keep.mkdir(exist_ok=True)
                        target = keep / f"{kind}-{seed}-{number}{SUFFIX[kind]}"
                        (shutil.copytree if out.is_dir() else shutil.copyfile)(out, target)
                shutil.rmtree(out) if out.is_dir() else out.unlink()
            spent = time.perf_counter() - begin
            print(f"{kind}: {len(numbers)} files in {spent:.0f} s: {dict(tally)}", flush=True)
    return findings


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="damaged files of each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first, to make one finding again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(SUFFIX), help="comma-separated")
    parser.add_argument("--keep", type=Path, help="folder for the files that were found")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return 0
    numbers = range(arguments.first, arguments.first + arguments.count)
    return 1 if fuzz(arguments.formats.split(","), numbers, arguments.seed, arguments.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
