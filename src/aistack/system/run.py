"""The only place that starts a program: argv in, output out, never a shell."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aistack.errors import ProgramError


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit status and what it wrote, as text."""

    status: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run `argv` to its end. `env` is added to our own environment.

    With `on_line`, stdout and stderr are one stream and each line is handed on as it comes.
    Raises ProgramError when the program is missing or outlasts `timeout_s`; a non-zero exit is the
    caller's to judge (see `check`).
    """
    environment = {**os.environ, **(env or {})}
    try:
        if on_line is not None:
            return _run_by_line(argv, environment, on_line)
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ProgramError(f"{argv[0]} is not installed", f"install it, or check PATH: {argv[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{' '.join(argv)} did not end within {timeout_s:.0f} s") from error
    return Finished(done.returncode, done.stdout, done.stderr)


def _run_by_line(argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> Finished:
    lines: list[str] = []
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            on_line(line.rstrip())
    return Finished(process.returncode, "".join(lines), "")


def lines(argv: Sequence[str], *, both: bool = False) -> Iterator[str]:
    """What `argv` writes, with `both` also on stderr, a line at a time, until it ends or the caller stops reading.

    Raises ProgramError.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if both else None,
            text=True,
        )
    except FileNotFoundError as error:
        raise ProgramError(f"{argv[0]} is not installed", f"install it, or check PATH: {argv[0]}") from error
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield line.rstrip("\n")
        finally:
            process.terminate()


def check(done: Finished, what: str, hint: str = "") -> Finished:
    """`done` if it ended well, else ProgramError with `what` failed and the last lines it wrote."""
    if done.status == 0:
        return done
    tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
    raise ProgramError(f"{what} failed (exit status {done.status}): {tail}", hint)


def start_daemon(argv: Sequence[str], *, env: Mapping[str, str], cwd: str) -> int:
    """Start a program that outlives us, in a session of its own with exactly `env`; returns its pid."""
    process = subprocess.Popen(
        argv, env=dict(env), cwd=cwd, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return process.pid


def replace_process(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Become `argv` (execve): does not return. Raises ProgramError when the program is missing."""
    try:
        os.execve(argv[0], list(argv), dict(env))  # noqa: S606 - no shell is wanted
    except FileNotFoundError as error:
        raise ProgramError(f"{argv[0]} is not installed") from error
