"""Frames that need not fit in memory: digits, repeated to a million frames, verified from a memory-mapped file.

    python benchmarks/streamed_frames.py --backends reference,brian2

Trains a dense network on scikit-learn's digits (or takes --model), writes the frames to an .npy file, memory-maps and
verifies it, and prints the memory of the process as it goes. What counts is anonymous memory (Anonymous in
/proc/self/smaps_rollup): pages of a mapped file count as resident too, but the system takes them back when it needs
them. Within a chunk it rises and falls, so the peaks of the tenths of all frames are compared: ends with 1 if one is
more than 10 % off the first, or if the verification fails. Linux alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import strop
from strop.running import frame_source as source_module

FLAT = 0.1


def memory() -> dict[str, float]:
    """Anonymous and resident memory of this process, in MiB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    fields = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {name: fields[name] for name in ("Anonymous", "Rss")}


class Watch(threading.Thread):
    """Notes the memory, and how many frames are done, every few seconds."""

    def __init__(self, pause: float) -> None:
        super().__init__(daemon=True)
        self.pause, self.ended = pause, threading.Event()
        self.rows: list[tuple[float, int, dict[str, float]]] = []
        self.begin, self.frames = time.perf_counter(), 0

    def run(self) -> None:
        while not self.ended.wait(self.pause):
            self.rows.append((time.perf_counter() - self.begin, self.frames, memory()))


def write_frames(path: Path, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Write the frames of `x`, over and over, to a file of `count` frames; return their labels."""
    file = np.lib.format.open_memmap(path, "w+", x.dtype, (count, *x.shape[1:]))
    for start in range(0, count, 50 * len(x)):
        rows = np.arange(start, min(count, start + 50 * len(x))) % len(x)
        file[start : start + len(rows)] = x[rows]
    file.flush()
    return y[np.arange(count) % len(x)]


def counted(watch: Watch) -> None:
    """Have every chunk say that it is given out."""
    honest = source_module.FrameSource.chunks

    def chunks(self: Any, size: int) -> Any:
        for chunk in honest(self, size):
            watch.frames = chunk.start
            yield chunk
        watch.frames = self.given

    source_module.FrameSource.chunks = chunks  # type: ignore[method-assign]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--backends", default="reference,brian2")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two looks at the memory")
    options = parser.parse_args()
    from strop.keras.recipes import load_digits, train_digits

    model = strop.load_model(options.model) if options.model else train_digits(conv=False, seed=0).model
    (x, y), *_ = load_digits()
    watch = Watch(options.pause)
    counted(watch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npy"
        labels = write_frames(path, x, y, options.frames)
        frames = np.load(path, mmap_mode="r")
        size = path.stat().st_size / 2**20
        print(f"{len(frames):,} frames, {frames.dtype} {frames.shape[1:]}: a file of {size:,.0f} MiB")
        before, watch.begin = memory(), time.perf_counter()
        watch.start()
        cpu = time.process_time()
        report = strop.verify(model, frames, labels, backends=options.backends.split(","))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - watch.begin
        watch.ended.set()
        watch.join()
    print(f"before: {before['Anonymous']:,.0f} MiB anonymous, {before['Rss']:,.0f} MiB resident")
    tenths = [[row for row in watch.rows if 10 * row[1] // (options.frames + 1) == n] for n in range(10)]
    peaks = [{name: max(found[name] for _, _, found in rows) for name in before} for rows in tenths]
    print(f"{'frames':>11} {'seconds':>8} {'anonymous':>13} {'resident':>13}   peaks of each tenth")
    for rows, peak in zip(tenths, peaks, strict=True):
        seconds, done, _ = rows[-1]
        print(f"{done:11,} {seconds:8.0f} {peak['Anonymous']:9,.0f} MiB {peak['Rss']:9,.0f} MiB")
    print(report)
    change = max(abs(peak["Anonymous"] / peaks[0]["Anonymous"] - 1) for peak in peaks)
    flat = change <= FLAT
    print(
        f"{report.frames:,} frames in {wall:,.0f} s, {cpu:,.0f} s of the CPU; {len(watch.rows):,} looks at the memory"
    )
    print(
        f"anonymous memory: {peaks[0]['Anonymous']:,.0f} MiB in the first tenth, then at most {100 * change:.1f} % "
        f"off: {'flat' if flat else 'NOT flat'} within {100 * FLAT:.0f} %"
    )
    return 0 if report.passed and report.frames == options.frames and flat else 1


if __name__ == "__main__":
    sys.exit(main())
