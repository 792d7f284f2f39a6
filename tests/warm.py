"""Processes that have imported torch already: what takes a fresh interpreter five seconds is paid once a test process.

A server imports what is heavy and waits. For each call it forks, and the fork becomes the process that was asked for:
with its own environment, folder, files and number; it ends as an interpreter does.
The server starts no thread and imports nothing that reads its settings from the environment, as the Hub's client does.
Who asks about the start itself, or about memory, asks a real interpreter.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
LARGEST = 2**20  # bytes of a call
SERVED = "LOTTERY_HUB_TESTS_SERVED"  # the number of the socket to a server that there is
HEAVY = (
    "torchvision", "scipy.special", "sklearn.datasets", "pyarrow.parquet", "PIL.Image", "jinja2", "yaml", "pydantic",
    "safetensors.torch", "lottery_hub.cli", "lottery_hub.finding", "lottery_hub.studying", "lottery_hub.verifying",
)  # fmt: skip


class Process:
    """A started process, to be waited for or sent signals."""

    def __init__(self, words: Sequence[str], status: IO[bytes]) -> None:
        self.args, self._status = list(words), status
        self.pid = int(status.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status, negative where a signal ended it; raise TimeoutExpired."""
        if self.returncode is None:
            ready, _, _ = select.select([self._status], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and return when it has ended."""
        self.send_signal(signal.SIGKILL)
        self.wait()


def start(
    words: Sequence[str | Path],
    *,
    stdin: int | IO[Any],
    stdout: int | IO[Any],
    stderr: int | IO[Any],
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    serve: bool = False,
) -> Process:
    """Start what `python *words` starts: "-c" and a program, "-m" and a module, or a file."""
    given = [str(word) for word in words]
    about = dict(os.environ if env is None else env), str(Path.cwd() if cwd is None else cwd)
    call = json.dumps([given, *about, serve])
    reading, writing = os.pipe()
    files = [each if isinstance(each, int) else each.fileno() for each in (stdin, stdout, stderr)]
    socket.send_fds(_server(), [call.encode()], [*files, writing])
    os.close(writing)
    # Unbuffered, lest `select` waits for what has been read already.
    return Process(given, os.fdopen(reading, "rb", buffering=0))


def run(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    given: str = "",
    stdout: int | IO[Any] | None = None,
    timeout: float | None = 200,
    serve: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Return what `python *words` prints, unless it goes to `stdout`, and how it ends; `given` is what it reads.

    What starts processes itself in this way has a server of its own where it says `serve`, before it imports anything.
    """
    with contextlib.ExitStack() as stack:
        fed, out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        fed.write(given)
        fed.seek(0)
        process = start(
            words, env=env, cwd=cwd, stdin=fed, stdout=out if stdout is None else stdout, stderr=err, serve=serve
        )
        try:
            process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        printed = []
        for each in (out, err):
            each.seek(0)
            printed.append(each.read())
        return subprocess.CompletedProcess(process.args, process.wait(), *printed)


CLI = ("-c", "from lottery_hub.cli import main; main()")


@functools.cache
def _server() -> socket.socket:
    """Start the server of this process, unless it has one; it ends when its socket closes."""
    if SERVED in os.environ:
        return socket.socket(fileno=int(os.environ[SERVED]))
    ours, theirs = _pair()
    # One thread: what has started others, as a second one would, cannot be forked.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.Popen(
        [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    return ours


def _pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for side in pair:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    return pair


def _serve(calls: socket.socket) -> list[str]:
    """Answer calls; return, in the process that one asks for, its words."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        call, files, _, _ = socket.recv_fds(calls, LARGEST, 4)
        if not call:
            os._exit(0)
        if not os.fork():
            break
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    calls.close()
    *streams, status = files
    # This one stays, to say how the one that is asked for ends.
    if pid := os.fork():
        for file in streams:
            os.close(file)
        os.write(status, f"{pid}\n".encode())
        _, ended = os.waitpid(pid, 0)
        os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
        os._exit(0)
    os.close(status)
    for place, file in enumerate(streams):
        os.dup2(file, place)
        os.close(file)
    return _become(*json.loads(call))


def _become(words: list[str], environment: dict[str, str], folder: str, serve: bool) -> list[str]:
    """Make this process what a fresh one is."""
    environment.pop(SERVED, None)
    if serve:
        ours, theirs = _pair()
        if not os.fork():
            ours.close()
            return _serve(theirs)
        theirs.close()
        environment[SERVED] = str(ours.detach())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    return words


def _preload() -> None:
    """Import what is heavy, unless it reads its settings when it is imported."""
    for name in HEAVY:
        importlib.import_module(name)
    os.fsync = lambda _: None  # as in conftest.py
    early = [name for name in ("timm", "huggingface_hub", "datasets") if name in sys.modules]
    assert not early, f"{early} would know the address and the cache of the Hub before they are given"


def _run(words: list[str]) -> None:
    """Do what `python *words` does."""
    if words[0] == "-W":
        action, _, category = words[1].partition("::")
        warnings.simplefilter(action, getattr(builtins, category or "Warning"))  # type: ignore[arg-type]
        del words[:2]
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        program = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), vars(program))
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")


def _end(words: list[str]) -> None:
    """Do what `python *words` does, and end as the interpreter does, but for taking all of torch apart."""
    status = 0
    try:
        _run(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not status and end.code is not None:
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        status = -signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError as problem:
        print(f"Exception ignored in: {sys.stdout!r}\n{problem!r}", file=sys.stderr)
        status = 120
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 255)


if __name__ == "__main__":
    _preload()
    gc.freeze()  # what was imported is not looked through in each fork, and so not copied
    _end(_serve(socket.socket(fileno=int(sys.argv[1]))))
