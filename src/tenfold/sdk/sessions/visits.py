"""One request and its session: loaded when it is asked for, kept before the response begins.

Made by `sessions`, one a request. What is in which store is `stores`' business, what has changed is `session`'s.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tenfold import errors, request
from tenfold.sdk import counters
from tenfold.sdk.sessions import cookies, csrf, records, sealing, session, stores

log = logging.getLogger("tenfold.sessions")

RENEW_SHARE = 0.1
"""A session that is only read is renewed once a tenth of its life has passed."""

PARTING_SECONDS = 10.0
"""A request that was sent before its session ended may arrive so long after it: what it changes is nobody's."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What visits go by; replaced when the bindings change."""

    stores: stores.Stores
    seal: sealing.Seal
    forms: csrf.Forms
    cookie: str
    life_seconds: float
    clock: Callable[[], float] = time.time


class Visit:
    """One request's session."""

    def __init__(self, setting: Setting, serving: request.Request) -> None:
        self._setting = setting
        self._serving = serving
        self._lock = asyncio.Lock()
        self._ticket: records.Ticket | None = None
        self._found: stores.Found | None = None
        self._fresh: records.Id | None = None
        self._is_parted = False
        self._has_forms = False
        self.session: session.Session | None = None

    async def load(self) -> session.Session:
        """The session; asked for once, however often this is called, and by however many tasks."""
        async with self._lock:
            if self.session is None:
                self._ticket = self._brought()
                if self._ticket is not None:
                    await self._look(self._ticket)
                self.session = session.Session(self, self._found.record if self._found else None)
        return self.session

    async def keep(self, status: int, setting: Setting) -> request.Headers:
        """Keep what has changed, before the response begins; the headers that the client needs.

        A response of 500 or above keeps nothing at all, not even a logout: its client is told that it failed.
        `setting` is the service's now: while the request was under way its stores may have become others.
        """
        mine = self.session
        if mine is None:
            return []
        if setting is not self._setting:
            await self._follow(setting)
        headers: request.Headers = [(b"vary", b"cookie")]
        if status < 500:
            with request.recording().span("session", "keep", setting.stores.current.name) as span:
                cookies_given = await self._kept(mine)
                span.decide("the client gets its cookie" if cookies_given else "nothing had to be kept")
            headers += cookies_given
        return headers

    def ensure_changeable(self, what: str) -> None:
        """Raise MisuseError when a change can no longer be kept."""
        if self._serving.scope.get("type") == "websocket":
            raise errors.MisuseError(f"{what}: a WebSocket's session is read only; change it in an HTTP request")
        if self._serving.has_responded:
            raise errors.MisuseError(
                f"{what}: the response has begun, its cookie is sent and the session kept; change it before"
            )

    def csrf(self) -> str:
        """A token for this request's forms; a visitor without a session is given a cookie for it."""
        self._has_forms = True
        return self._setting.forms.issue(self._id())

    def is_from_here(self, token: str) -> bool:
        """Whether this is a token of the session that the request came with."""
        return self._ticket is not None and self._setting.forms.verify(self._ticket.id, token)

    def _brought(self) -> records.Ticket | None:
        """What the request's cookie says; None without one, and for one that is none of ours."""
        text = cookies.find(self._serving.scope.get("headers", ()), self._setting.cookie)
        if text is None:
            return None
        if text.startswith(sealing.MARK):
            return self._setting.seal.open(text)
        found = records.parse_id(text)
        return None if found is None else records.Ticket(found)

    async def _look(self, ticket: records.Ticket) -> None:
        now = self._now()
        with request.recording().span("session", "load", self._setting.stores.current.name) as span:
            found = await self._setting.stores.load(ticket, now)
            span.decide(_told(found))
        if found is None:
            counters.add("sessions.unknown", 0 if ticket.is_blank else 1)
        elif found.record.is_over:
            self._is_parted = now < found.record.changed_at + PARTING_SECONDS
        else:
            self._found = found

    async def _follow(self, setting: Setting) -> None:
        """Find the session where it is by now: what is written to where it was would not move with it."""
        self._setting = setting
        if self._found is None or self._ticket is None or self._found.store is setting.stores.current:
            return
        found = await setting.stores.load(self._ticket, self._now())
        if found is not None and not found.record.is_over:
            self._found = found
        else:  # it ended meanwhile; there is nothing for changes to be merged into
            self._found = stores.Found(self._found.record, setting.stores.current)

    def _id(self) -> records.Id:
        """The id that the session has after this request."""
        mine = self.session
        is_same = mine is not None and not mine.is_over and not mine.is_rotated
        if self._ticket is not None and is_same and (self._found is not None or self._is_blank()):
            return self._ticket.id
        if self._fresh is None:
            self._fresh = records.new_id()
        return self._fresh

    def _is_blank(self) -> bool:
        """Whether the visitor has a cookie of ours, and nothing was kept of them so far."""
        return self._ticket is not None and self._ticket.is_blank and not self._is_parted

    async def _kept(self, mine: session.Session) -> request.Headers:
        changes, found, ticket = mine.changes(), self._found, self._ticket
        is_wanted = bool(changes or mine.principal)
        if found is not None and ticket is not None and mine.is_over:
            await self._setting.stores.end(ticket.id, self._now())
            counters.add("sessions.ended")
            self._found = found = None
        if found is None or ticket is None:
            if is_wanted or self._has_forms:
                return await self._begun(mine, changes)
            return [self._farewell()] if mine.is_over and ticket is not None else []
        if mine.is_rotated:
            return await self._rotated(mine, changes, found, ticket)
        return await self._changed(changes, found, ticket)

    async def _begun(self, mine: session.Session, changes: records.Changes) -> request.Headers:
        """A session that was not there before; for a visitor of whom only the cookie is needed, nothing is stored."""
        if self._is_parted and mine.principal is None:
            return self._dropped()
        one, record = self._id(), self._record(changes.put, mine.principal)
        if not record.fields and record.principal is None:
            return [self._cookie(self._setting.seal.close(one, record))]
        self._ensure_fits(one, record)
        where = self._setting.stores.current
        if not await where.create(one, record, is_precious=record.principal is not None):
            return await self._joined(mine, changes, one, record)
        counters.add("sessions.begun")
        return [self._cookie(where.cookie(one, record))]

    async def _joined(
        self, mine: session.Session, changes: records.Changes, one: records.Id, record: records.Record
    ) -> request.Headers:
        """Another request of the same visitor was first: of two with one blank cookie both are kept."""
        found = stores.Found(record, self._setting.stores.current)
        if await self._setting.stores.change(found, one, changes, record.changed_at, record.expires_at):
            return [self._cookie(one.text)]
        if mine.principal is None:
            return self._dropped()
        self._fresh, self._ticket = None, None
        return await self._begun(mine, changes)

    async def _rotated(
        self, mine: session.Session, changes: records.Changes, found: stores.Found, ticket: records.Ticket
    ) -> request.Headers:
        new = self._id()
        record = self._record(changes.onto(found.record.fields), mine.principal, found.record.created_at)
        self._ensure_fits(new, record)
        if await self._setting.stores.rotate(found, ticket.id, new, record, changes):
            counters.add("sessions.rotated")
            return [self._cookie(found.store.cookie(new, record))]
        if mine.principal in (None, found.record.principal):
            return self._dropped()
        # Logged in here while the session was ended elsewhere: a new one, with nothing of the old.
        return await self._begun(mine, changes)

    async def _changed(self, changes: records.Changes, found: stores.Found, ticket: records.Ticket) -> request.Headers:
        """Merge; renew what was only read, once in a while; give the client the form of cookie that its store needs."""
        life = self._setting.life_seconds
        is_due = found.record.expires_at - self._now() < life * (1 - RENEW_SHARE)
        has_other_form = (ticket.sealed is not None) is not found.store.is_in_cookie
        if not changes and not is_due and not has_other_form:
            return []
        record = self._record(changes.onto(found.record.fields), found.record.principal, found.record.created_at)
        if changes:
            self._ensure_fits(ticket.id, record)
        if (changes or is_due) and not await self._merged(changes, found, ticket, record):
            return self._dropped() if changes else []
        return [self._cookie(found.store.cookie(ticket.id, record))]

    async def _merged(
        self, changes: records.Changes, found: stores.Found, ticket: records.Ticket, record: records.Record
    ) -> bool:
        try:
            return await self._setting.stores.change(found, ticket.id, changes, record.changed_at, record.expires_at)
        except (errors.TryAgain, errors.OutcomeUnknown) as error:
            if changes:
                raise
            log.warning("a session was not renewed: %s", error)  # the next request tries again
            return False

    def _record(self, fields: Mapping[str, str], principal: str | None, created: float = 0.0) -> records.Record:
        now = self._now()
        return records.Record(fields, principal, created or now, now, now + self._setting.life_seconds)

    def _ensure_fits(self, one: records.Id, record: records.Record) -> None:
        where = self._setting.stores.current
        if where.is_in_cookie:
            most = cookies.MOST_COOKIE_BYTES - len(self._setting.cookie) - 1
            records.ensure_fits(record.fields, len(where.cookie(one, record)), most)
        else:
            records.ensure_fits(record.fields, records.size(record.fields), records.MOST_BYTES)

    def _dropped(self) -> request.Headers:
        """The session ended while this request was under way: what it has changed is nobody's."""
        counters.add("sessions.dropped")
        log.info("request %s: its session had ended meanwhile, its changes were dropped", self._serving.trace)
        return []

    def _cookie(self, value: str) -> tuple[bytes, bytes]:
        return cookies.keep(self._setting.cookie, value, self._setting.life_seconds, is_secure=self._is_secure())

    def _farewell(self) -> tuple[bytes, bytes]:
        return cookies.drop(self._setting.cookie, is_secure=self._is_secure())

    def _is_secure(self) -> bool:
        return self._serving.scope.get("scheme") in ("https", "wss")

    def _now(self) -> float:
        return round(self._setting.clock(), 3)


def _told(found: stores.Found | None) -> str:
    """What was found, in words for the request's trace."""
    if found is None:
        return "no store knows it: the visitor has none"
    return "it is over" if found.record.is_over else f"found in the store {found.store.name}"
