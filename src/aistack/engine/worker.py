"""Starts and ends the process of a loaded model; the only module of the engine that starts a program."""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import signal
import sys
from collections import deque
from pathlib import Path

from aistack.engine.launch import Launch
from aistack.system import files

_LOAD_LIMIT_S = 900.0  # tens of gigabytes from a slow disk
_END_LIMIT_S = 5.0
_LOGGED_ERROR = re.compile(r"^[\d.]+ E (?:\S+ +)?(\S+: .*)$")
_FATAL = re.compile(r"GGML_ASSERT|terminate called|what\(\):|^\w*Error\b")
_CHUNK = 1 << 16


class LoadFailure(Exception):
    """llama.cpp could not load a model; the message is its reason."""


class Worker:
    """A llama.cpp server. `address` is the path of its socket, `exited` done when the process is gone."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, socket: Path) -> None:
        self._process = process
        self._socket = socket
        self.address = address
        self.pid = process.pid
        self._errors: deque[str] = deque(maxlen=20)
        self._reading = asyncio.create_task(self._read_errors())
        self.exited: asyncio.Task[int] = asyncio.create_task(self._watch())

    def reason(self) -> str:
        """Why the process ended, in llama.cpp's words where it said something."""
        status = self._process.returncode
        if status == -signal.SIGKILL:
            return "its process was killed (signal 9), most likely because memory ran out"
        for line in self._errors:
            if (said := _LOGGED_ERROR.match(line)) and "common_fit_params" not in line:
                return said[1]
        told = [line for line in self._errors if _FATAL.search(line)]
        ended = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return f"its process ended with {ended}" + (f": {told[-1]}" if told else "")

    async def end(self) -> None:
        """End the process and wait until its memory is free."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(self.exited), _END_LIMIT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self.exited

    async def serving(self) -> None:
        """Wait until llama.cpp serves. Raises LoadFailure."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), _LOAD_LIMIT_S)
        except TimeoutError:
            await self.end()
            raise LoadFailure(f"it took longer than {_LOAD_LIMIT_S:.0f} s") from None
        if not line:
            await self.exited
            raise LoadFailure(self.reason())

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(_CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-_CHUNK:]  # a line without an end must not eat our memory
            self._errors.extend(line.decode(errors="replace").rstrip() for line in lines)
        self._errors.append(rest.decode(errors="replace"))

    async def _watch(self) -> int:
        status = await self._process.wait()
        await self._reading
        files.remove(self._socket)
        return status


async def start(launch: Launch, run_dir: Path, directory: int, number: int) -> Worker:
    """Start llama.cpp for `launch`; returns when it serves. Raises LoadFailure.

    `directory` is an open descriptor of `run_dir`: through it the socket is reached whatever the length
    of the path. `number` tells this worker's socket from the others'.
    """
    socket_name = f"{os.getpid()}-{number}.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aistack.engine.llama", str(os.getpid()), str(run_dir), socket_name,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for the front, which then ends us in order
    )  # fmt: skip
    worker = Worker(process, f"/proc/self/fd/{directory}/{socket_name}", run_dir / socket_name)
    try:
        assert process.stdin is not None
        # uvloop refuses to write to a process that has died already; `serving` tells why it did.
        with contextlib.suppress(RuntimeError):
            process.stdin.write(json.dumps(dataclasses.asdict(launch)).encode())
        process.stdin.close()
        await worker.serving()
    except BaseException:
        await asyncio.shield(worker.end())
        raise
    return worker
