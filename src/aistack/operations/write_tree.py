"""`aistack render`: the files that `up` would write, for people who hand them to tools of their own."""

from collections.abc import Iterator
from pathlib import Path

from aistack.operations.stack import Stack
from aistack.render import RenderedFile
from aistack.system import files


def tree(stack: Stack) -> Iterator[tuple[Path, RenderedFile]]:
    """Each file with its place in the tree: below the folder of generated files when all lie there, else below /."""
    found = stack.runtime.tree(stack.rendered())
    generated = stack.paths.generated
    root = generated if all(Path(file.path).is_relative_to(generated) for file in found) else Path("/")
    return ((Path(file.path).relative_to(root), file) for file in found)


def write_tree(stack: Stack, folder: Path) -> tuple[Path, ...]:
    """Write the tree below `folder`; returns the files, what is there beside them stays. Raises UserError."""
    written = []
    for place, file in tree(stack):
        files.write(folder / place, file.content, file.mode)
        written.append(folder / place)
    return tuple(written)
