"""News on a real terminal (a pseudo one), where a display that goes on drawing would spoil what people type."""

import os
import pty
import select
import subprocess
import sys
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
        os.fdopen(ours, "r+b", buffering=0) as terminal,
        subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs),
    ):
        os.close(theirs)
        assert b"starting" in _until(terminal, b"install nginx [Y/n]: ")
        assert not select.select([terminal], [], [], 0.6)[0], "eight times a second, something would have come by now"
        terminal.write(b"n\n")
        after = _until(terminal, b"agreed: ")
        assert b"\x1b[1A" not in after.partition(b"healthy")[0], "the question and its answer stay on the screen"
        assert _until(terminal, b"\n").strip() == b"False"


def _until(terminal: FileIO, text: bytes) -> bytes:
    seen = b""
    while not seen.endswith(text):
        assert select.select([terminal], [], [], 20)[0], f"no {text!r} after {seen!r}"
        seen += terminal.read(1) or b""
    return seen
