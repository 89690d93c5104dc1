"""What administrators do through the API: in the database, and in this gateway before they are answered."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from aistack.errors import UserError
from aistack.gateway.key_ring import KeyRing
from aistack.gateway.key_terms import TermError
from aistack.gateway.keys import KeyStore, NameTaken, NoSuchKey
from aistack.gateway.refusals import Refusal, bad_request
from aistack.gateway.state import drained
from aistack.gateway.state.database import Database
from aistack.gateway.usage_report import By, Line, report

# More would only wait for each other, and take the threads that write usage.
_AT_ONCE = 2

T = TypeVar("T")

_log = logging.getLogger("aistack.gateway.administration")


class Administration:
    """Works on `database` in threads; `keys` follows it. Every method raises Refusal: 503 when the database cannot be
    used, 400, 404 or 409 for what it would not do."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self.store = KeyStore(database)
        self._database = database
        self._keys = keys
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(self, work: Callable[[], T]) -> T:
        """What `work` gives, which may wait for the database."""
        async with self._turns:
            with _refused():
                return await asyncio.to_thread(work)

    async def change(self, work: Callable[[], T]) -> T:
        """The same for what changes something: it counts here when this returns, and soon in other gateways."""
        async with self._turns:
            with _refused():
                found = await asyncio.to_thread(work)
                await self._keys.catch_up()
                return found

    async def usage(self, by: By, since: float | None, until: float | None) -> tuple[Line, ...]:
        """Who used how much, as far as it is written: within half a second."""
        return await self.read(partial(report, self._database, by, since, until))

    async def drain(self, node: str) -> None:
        """Have `node` sent nothing new."""
        await self.change(partial(drained.drain, self._database, node))

    async def resume(self, node: str) -> None:
        """Have `node` sent requests again."""
        await self.change(partial(drained.resume, self._database, node))


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except TermError as error:
        raise bad_request(_words(error), error.term) from error
    except NoSuchKey as error:
        raise Refusal(404, error.message, "key_not_found") from error
    except NameTaken as error:
        raise Refusal(409, error.message, "name_taken", param="name") from error
    except UserError as error:
        # Where the database lies is nothing for a client.
        _log.error("an administrator's request failed: %s", error.message)
        message = "the gateway's database cannot be used now; its log says why"
        raise Refusal(503, message, "database_unavailable", ((b"retry-after", b"5"),)) from error


def _words(error: UserError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
