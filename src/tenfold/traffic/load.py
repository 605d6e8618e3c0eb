"""One run of load: users, their pace, the ledger and the report. Started by the command line, tests and drills.

Runs in the caller's event loop, so that a test can break things while it goes on. Owns every task and connection it
makes: after `__aexit__` nothing is left.
"""

import asyncio
import datetime
import itertools
import random
import ssl
import time
import traceback
from pathlib import Path
from types import TracebackType

from tenfold import errors
from tenfold.traffic import connection, journeys, ledger, pacing, report, resolving
from tenfold.traffic.user import Surroundings, User

FIRST_USERS = 10
SLOTS_PER_NEW_USER = 80
"""A user comes and stays every so many requests, as long as there are fewer than `users`. When a request is due and
nobody is free to send it, one more comes for a single journey."""

DRAIN_SECONDS = 30.0
"""How long, after the last slot, the requests that are due may take to be sent and answered."""

INTERRUPT_SECONDS = 2.0
"""How long requests on their way get when a person stops the run."""

CANCEL_SECONDS = 5.0
"""How long a journey may take to end when it is cancelled."""

IDLE_JOURNEY_SECONDS = 0.05
"""The pause after a journey that made no request, so that it cannot spin."""


class Load:
    """`async with Load(url, journeys, rate=100) as load: ...`, then `load.report`.

    `rate` is requests a second, over all journeys. With `seconds` the run ends by itself and `wait` waits for that;
    leaving the block ends it in any case: no further request becomes due, those that are due are sent and answered
    (within `DRAIN_SECONDS`; what is left then counts as failed). Leaving it by an exception or cancellation cuts the
    run short, as `stop` does. The ledger is complete after the block in every case.

    `users` bounds the virtual users and so the requests in flight; when all wait, further requests wait too, and
    their latency says so. `seed` repeats the choices of journeys (references and traces are always new).
    `trust` and `certified_name`: which certificate an https front door has to show (`connection.Origin`).
    `resolver`: who says what the host in `url` stands for; absent: this machine.
    Raises `BadInput` for arguments that cannot be, `RuntimeFailure` on leaving when the ledger could not be written.
    """

    def __init__(  # noqa: PLR0913 (two things to run, and how)
        self,
        url: str,
        plan: journeys.Plan,
        *,
        rate: float,
        seconds: float | None = None,
        users: int | None = None,
        seed: int | None = None,
        poisson: bool = False,
        ledger_path: Path | None = None,
        service: str = "",
        timeout_seconds: float = 10.0,
        trust: ssl.SSLContext | None = None,
        certified_name: str = "",
        resolver: resolving.Resolver | None = None,
    ) -> None:
        _ensure_positive(rate=rate, seconds=seconds, users=users, timeout_seconds=timeout_seconds)
        self.origin = connection.Origin.parse(url, trust, certified_name)
        self.plan = plan
        self.seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
        self.most_users = users or min(max(20, round(2 * rate)), 2000)
        self.report = report.Report()
        self._rate, self._seconds, self._timeout_seconds = rate, seconds, timeout_seconds
        self.resolver = resolver
        self._service = service or self.origin.host_header
        arrivals = pacing.arrivals(rate, seconds, _source(str(self.seed)) if poisson else None)
        self._pacer = pacing.Pacer(arrivals, self._want_user)
        self._ledger = ledger.Writer(ledger_path)
        self._users: dict[User, asyncio.Task[None]] = {}
        self._newcomers = itertools.count(1)
        self._started = 0.0
        self._is_stopped = False
        self._pacing: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def elapsed_seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    @property
    def users(self) -> int:
        """Virtual users there are now."""
        return len(self._users)

    @property
    def backlog(self) -> int:
        """Requests that are due and not sent."""
        return self._pacer.backlog

    async def wait(self) -> None:
        """Until the run has ended by itself or by `stop`, its last answers included. Cancelled: the run goes on."""
        assert self._running is not None
        await asyncio.shield(self._running)

    def stop(self) -> None:
        """End now, as Ctrl-C does: what is due is not sent, what is on its way gets `INTERRUPT_SECONDS`."""
        self._is_stopped = True
        self._end_pacing()

    async def __aenter__(self) -> "Load":
        self._started = time.monotonic() + 0.01
        self._ledger.open(self._header())
        for _ in range(min(FIRST_USERS, self.most_users)):
            self._add_user(stays=True)
        self._pacing = asyncio.create_task(self._pacer.run(self._started))
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._running is not None
        if error is not None:
            self.stop()
        self._end_pacing()
        await _finish(self._running)
        if self._ledger.failure is not None and error is None:
            raise self._ledger.failure

    async def _run(self) -> None:
        """From the first slot to the closed ledger."""
        assert self._pacing is not None
        await asyncio.wait([self._pacing])
        self._pacer.end()  # a pacing task that was cancelled before it began has not said so
        await self._drain()
        self._count_unsent()
        for task in self._users.values():
            task.cancel()
        await asyncio.wait(self._users.values(), timeout=CANCEL_SECONDS)
        for user in self._users:
            user.close()
        await asyncio.sleep(0)  # one turn of the loop: that is when aborted transports close
        self.report.seconds = self.elapsed_seconds
        self.report.late_seconds = self._pacer.late_seconds
        await self._ledger.close("interrupted" if self._is_stopped else "finished", self.report.seconds)
        for task in self._users.values():
            if task.done() and not task.cancelled():
                task.result()  # raises what a user's task died of: that would be a mistake of ours

    async def _drain(self) -> None:
        """Wait for the users to end, which they do when no slot is left."""
        ends_at = time.monotonic() + DRAIN_SECONDS
        is_cut = False
        pending = set(self._users.values())
        while pending and time.monotonic() < ends_at:
            if self._is_stopped and not is_cut:
                is_cut = True
                ends_at = min(ends_at, time.monotonic() + INTERRUPT_SECONDS)
                self._count_unsent()
            _, pending = await asyncio.wait(pending, timeout=0.1)

    def _count_unsent(self) -> None:
        unsent = self._pacer.drop_backlog()
        if not unsent:
            return
        reason = connection.Reason.INTERRUPTED if self._is_stopped else connection.Reason.UNSENT
        waited = self.elapsed_seconds - (unsent[0] - self._started)
        detail = (
            f"{len(unsent)} requests were due, the first {waited:.1f} s ago, and none of {self.users} users was free"
        )
        now = round(self.elapsed_seconds, 6)
        self._record(ledger.Trouble(session="", journey="", reason=reason, detail=detail, at=now, count=len(unsent)))

    def _end_pacing(self) -> None:
        if self._pacing is not None:
            self._pacing.cancel()

    def _want_user(self, slots: int, is_urgent: bool) -> None:
        """Called with every slot."""
        stays = slots % SLOTS_PER_NEW_USER == 0
        if len(self._users) < self.most_users and (stays or is_urgent):
            self._add_user(stays)

    def _add_user(self, stays: bool) -> None:
        number = next(self._newcomers)
        take, started = self._pacer.take, self._started
        around = Surroundings(self.origin, self._timeout_seconds, take, self._record, started, self.resolver)
        user = User(number, around, _source(f"{self.seed}.{number}"))
        self._users[user] = asyncio.create_task(self._live(user, stays))

    async def _live(self, user: User, stays: bool) -> None:
        """One journey after the other until no slot is left, or only one."""
        weights = [one.weight for one in self.plan.journeys]
        while True:
            journey = user.random.choices(self.plan.journeys, weights)[0]
            before = user.requests
            try:
                await self._make(journey, user)
            except pacing.LoadOver:
                return
            if not stays:
                del self._users[user]
                user.close()
                return
            if user.requests == before:
                if self._pacer.is_ending:
                    return
                await asyncio.sleep(IDLE_JOURNEY_SECONDS)

    async def _make(self, journey: journeys.Journey, user: User) -> None:
        """One journey. Whatever the service's own code raises is a failure of the run, not its end."""
        try:
            await journey(user)
        except errors.WrongAnswer as error:
            self._trouble(journey, user, connection.Reason.WRONG, str(error))
        except errors.RequestFailed:
            pass  # recorded where it happened
        except Exception as error:  # noqa: BLE001 (a journey may raise anything, and the load goes on)
            self._trouble(journey, user, "journey raised", f"{type(error).__name__}: {error}{_place(error)}")

    def _trouble(self, journey: journeys.Journey, user: User, reason: str, detail: str) -> None:
        now = round(self.elapsed_seconds, 6)
        self._record(
            ledger.Trouble(
                session=user.session, journey=journey.name, reason=reason, detail=detail, at=now, trace=user.last_trace
            )
        )

    def _record(self, record: ledger.Record) -> None:
        self._ledger.add(record)
        self.report.add(record)
        if self._ledger.failure is not None and not self._is_stopped:
            self.stop()  # a run without its evidence is not worth its load

    def _header(self) -> ledger.Header:
        return ledger.Header(
            version=ledger.VERSION,
            service=self._service,
            url=f"{self.origin.scheme}://{self.origin.host_header}",
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            rate=self._rate,
            seconds=self._seconds,
            seed=self.seed,
            journeys=tuple(one.name for one in self.plan.journeys),
        )


async def _finish(task: asyncio.Task[None]) -> None:
    """Wait for a task that ends within bounds, even when the caller is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


def _source(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 (chooses journeys, keeps no secret)


def _place(error: Exception) -> str:
    """Where the service's own code was when it failed: ` (load.py:31)`."""
    ours = str(Path(__file__).parents[1])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _ensure_positive(**numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and not 0 < number < float("inf"):
            raise errors.BadInput(f"{name}: {number} found, a number above 0 expected")
