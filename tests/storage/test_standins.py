"""Stand-ins: what people pickle beside weights is passed over, and nothing of it is ever built."""

from __future__ import annotations

import argparse
import io
import pathlib
import pickletools
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lottery_hub.errors import TicketError
from lottery_hub.storage.checkpoints import unpickled
from lottery_hub.storage.standins import NAMES, Unread


def read(content: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return unpickled(buffer, Path("w.pth"))


BESIDE = [
    argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("train"), nested=argparse.Namespace(a=[1])),
    np.float64(71.2),
    np.int64(3),
    np.bool_(True),
    np.dtype("float32"),
    np.arange(5.0),
    pathlib.Path("train"),
    pathlib.PureWindowsPath("C:/train"),
]


@pytest.mark.parametrize("beside", BESIDE, ids=lambda value: type(value).__name__)
def test_what_stands_beside_weights_is_passed_over(beside: Any) -> None:
    found = read({"state_dict": {"a": torch.ones(2)}, "beside": beside, "list": [beside, {"in": beside}]})
    assert torch.equal(found["state_dict"]["a"], torch.ones(2))
    assert type(found["beside"]) is type(found["list"][1]["in"]) is Unread


def test_every_name_is_one_that_people_write_and_there_are_no_others() -> None:
    assert set(NAMES) == {
        "argparse.Namespace",
        "numpy.dtype",
        "numpy.ndarray",
        "numpy.core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "pathlib._local.PurePosixPath",
        "pathlib._local.PureWindowsPath",
    }


def made(*words: Any) -> bytes:
    """A pickle of protocol 2, of opcodes and what follows them."""
    by_name = {code.name: code.code.encode("latin-1") for code in pickletools.opcodes}
    return b"\x80\x02" + b"".join(by_name[word] if isinstance(word, str) else word for word in words) + b"."


TEXT = ("BINUNICODE", b"\x03\0\0\0", b"abc")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_class_that_is_named_is_called(name: str) -> None:
    """Called with arguments that the class would not take, and given a state that it could not have."""
    module, _, attribute = name.rpartition(".")
    line = f"{module}\n{attribute}\n".encode()
    called = made("GLOBAL", line, *TEXT, *TEXT, *TEXT, "TUPLE3", "REDUCE", *TEXT, "BUILD")
    new = made("GLOBAL", line, *TEXT, "TUPLE1", "NEWOBJ", "EMPTY_DICT", *TEXT, "EMPTY_TUPLE", "SETITEM", "BUILD")
    for pickle in (called, new):
        found = torch_pickled(pickle)
        assert type(found) is Unread
        assert not hasattr(found, "__dict__")


def torch_pickled(pickle: bytes) -> Any:
    """Read a pickle as torch reads the one in a file of its own."""

    whole, buffer = io.BytesIO(), io.BytesIO()
    torch.save({}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickle if name.endswith("data.pkl") else old.read(name))
    return unpickled(buffer, Path("w.pth"))


@pytest.mark.parametrize(
    "name", ["builtins\neval", "os\nsystem", "posix\nsystem", "numpy\nload", "pathlib\nPath", "argparse\nFileType"]
)
def test_a_class_that_is_not_named_there_is_refused(name: str) -> None:
    with pytest.raises(TicketError, match=r"needs code to be run|is damaged"):
        torch_pickled(made("GLOBAL", f"{name}\n".encode(), *TEXT, "TUPLE1", "REDUCE"))


def test_what_is_passed_over_takes_no_items() -> None:
    with pytest.raises(TicketError):
        torch_pickled(made("GLOBAL", b"numpy\nndarray\n", "EMPTY_TUPLE", "REDUCE", *TEXT, *TEXT, "SETITEM"))


def test_torchs_own_list_is_afterwards_as_it_was() -> None:
    before = set(torch.serialization.get_safe_globals())
    read({"a": np.float64(1)})
    assert set(torch.serialization.get_safe_globals()) == before


def test_several_threads_read_at_a_time() -> None:
    problems: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(20):
                read({"a": np.float64(1)})
        except TicketError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
