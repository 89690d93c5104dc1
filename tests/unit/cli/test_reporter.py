"""News on a real terminal (a pseudo one), where a display that goes on drawing would spoil what people type."""

import os
import pty
import select
import subprocess
import sys
import time
from io import FileIO

PROGRAM = """
from aistack.cli.reporter import Reporter
from aistack.runtimes.base import Progress
with Reporter() as reporter:
    reporter.report(Progress("chat", "starting"))
    agreed = reporter.confirm("install nginx")
    reporter.report(Progress("chat", "healthy"))
print(f"agreed: {agreed}")
"""


def test_nothing_is_drawn_while_a_question_waits_for_its_answer() -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-c", PROGRAM]
    with (
        subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs),
        os.fdopen(ours, "r+b", buffering=0) as terminal,  # closed first, which ends a child that still waits
    ):
        os.close(theirs)
        assert b"starting" in _until(terminal, b"install nginx [Y/n]: ")
        assert not select.select([terminal], [], [], 0.6)[0], "eight times a second, something would have come by now"
        terminal.write(b"n\n")
        after = _until(terminal, b"agreed: ")
        assert b"\x1b[1A" not in after.partition(b"healthy")[0], "the question and its answer stay on the screen"
        assert _until(terminal, b"\n").strip() == b"False"


def _until(terminal: FileIO, text: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 20
    while not seen.endswith(text):
        assert time.monotonic() < deadline, f"no {text!r} in {seen[-2000:]!r}"
        if select.select([terminal], [], [], 0.5)[0]:
            seen += terminal.read(1) or b""
    return seen
