"""Interrupted commands end with 130 or 143 and one line; what cannot be written is one line with the user's path."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refused, strop
from graphs import skip_network
from interrupting import duration, interrupt, moments

from strop.cli.signals import is_command_line
from strop.errors import DataError
from strop.graph.files.atomic import write_bytes, write_npz, write_text


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    skip_network(np.random.default_rng(0)).save(tmp_path / "in/net.strop")
    return tmp_path / "in/net.strop"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("command", ["quantize", "export"])
def test_a_signal_at_any_moment_leaves_a_whole_file_or_none(net: Path, tmp_path: Path, command: str) -> None:
    words = {
        "quantize": ["quantize", str(net), "--target", "spinnaker", "--out", "q.strop", "--json", "q.json"],
        "export": ["export", str(net), "--target", "nengo", "--out", "folder"],
    }[command]
    out = tmp_path / "whole"
    out.mkdir()
    seconds, outputs = duration(words, out)
    assert outputs == ({"q.strop", "q.json"} if command == "quantize" else {"folder"})
    interrupted = 0
    for n, (after, number) in enumerate(moments(0.9 * seconds, 3, seed=len(command))):
        out = tmp_path / str(n)
        out.mkdir()
        result = interrupt(words, out, after, number)
        assert result.wrong(outputs) == ""
        interrupted += not result.finished
    assert interrupted


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_said_while_a_library_is_kept_quiet(number: signal.Signals) -> None:
    script = (
        "import time; from strop.cli.signals import end_on_signals; from strop.cli.noise import quiet_stderr\n"
        "end_on_signals()\n"
        "with quiet_stderr():\n"
        "    print('quiet', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "quiet\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert error == {signal.SIGINT: "strop: interrupted\n", signal.SIGTERM: "strop: terminated\n"}[number]
    assert process.returncode == 128 + number


def test_a_library_leaves_signals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for argument, expected in (("/usr/bin/strop", True), ("script.py", False), ("/x/pytest", False)):
        monkeypatch.setattr("sys.argv", [argument])
        assert is_command_line() is expected
    monkeypatch.setattr("sys.argv", ["-m"])
    for words, expected in ((["-W", "ignore", "-m", "strop", "verify"], False), (["-m", "strop", "x"], True)):
        monkeypatch.setattr("sys.orig_argv", ["python", *words])
        assert is_command_line() is expected


def test_a_folder_in_the_place_of_a_file_is_named(net: Path, tmp_path: Path) -> None:
    (tmp_path / "q.strop").mkdir()
    result = strop("quantize", net, "--target", "spinnaker", "--out", tmp_path / "q.strop")
    refused(result, 2, f"{tmp_path / 'q.strop'} cannot be written: it is a folder")
    result = strop("inspect", net, "--json", tmp_path / "in")
    refused(result, 2, f"{tmp_path / 'in'} cannot be written: it is a folder")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 6), np.float32))
    result = strop("predict", net, "--data", tmp_path / "x.npz", "--backend", "reference", "--out", tmp_path / "in")
    refused(result, 2, f"{tmp_path / 'in'} cannot be written: it is a folder")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_one_line_with_the_users_path(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "/some/temporary/name")

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "q.strop"
    result = strop("quantize", net, "--target", "spinnaker", "--out", out)
    refused(result, 2, f"{out} cannot be written: {os.strerror(number)}; nothing was written")
    monkeypatch.setattr(Path, "write_text", full)
    folder = tmp_path / "folder"
    result = strop("export", net, "--target", "nengo", "--out", folder)
    refused(result, 2, f"{folder} cannot be written: {os.strerror(number)}; nothing was written")
    assert os.listdir(tmp_path) == ["in"]


def test_an_error_of_hdf5_names_the_file_and_the_reason(tmp_path: Path) -> None:
    from strop.graph.files.atomic import write_atomically

    text = "Unable to write (file write failed: time = x\n, filename = '/t/.q', errno = 28, error message = 'No space')"
    with pytest.raises(DataError) as caught, write_atomically(tmp_path / "q.keras"):
        raise RuntimeError(text)
    assert str(caught.value) == f"{tmp_path / 'q.keras'} cannot be written: {os.strerror(28)}; nothing was written"
    assert os.listdir(tmp_path) == []


def test_other_errors_and_interrupts_remove_the_draft_and_go_on(tmp_path: Path) -> None:
    from strop.graph.files.atomic import write_atomically

    def half(error: BaseException) -> None:
        with write_atomically(tmp_path / "q") as draft:
            draft.write_text("half")
            raise error

    for error in (KeyError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            half(error)
    assert os.listdir(tmp_path) == []


def test_files_that_are_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / "b", b"abc")
    write_text(tmp_path / "t", "ü")
    write_npz(tmp_path / "n.npz", x=np.arange(3))
    assert (tmp_path / "b").read_bytes() == b"abc"
    assert (tmp_path / "t").read_text(encoding="utf-8") == "ü"
    with np.load(tmp_path / "n.npz") as file:
        assert file["x"].tolist() == [0, 1, 2]
    assert sorted(os.listdir(tmp_path)) == ["b", "n.npz", "t"]
