"""Every exception tenfold raises, in one tree. The type says what the caller can do.

    TenfoldError
    ├── BadInput                  what a person wrote cannot be used (exit code 2)
    │   ├── BadTopology           tenfold.toml, all problems at once
    │   ├── BadBindings           the file that tells an app its endpoints
    │   ├── BadLedger             a ledger that is not one
    │   └── BadPosition           a position token that does not parse
    ├── TryAgain                  nothing happened; the same call may work `after_seconds` later
    │   ├── Overloaded            a bounded queue is full
    │   ├── StoreUnavailable      the cache, session store or queue does not answer, and there is no other way
    │   ├── DeadlineExceeded      the wait was as long as it may be, and nothing was done
    │   ├── NoPrimary             no writable primary appeared before the deadline
    │   ├── NoOtherRegion         a commit counts in two regions or not at all, and no other one follows
    │   └── NotCommitted          the connection was lost, and certainly nothing was written
    ├── OutcomeUnknown            a commit's answer was lost and could not be settled
    ├── MisuseError               the program, not the world, is wrong
    │   ├── NotStarted            a Tenfold object used before its lifespan began
    │   ├── WrongLoop             a Tenfold object used on another event loop or thread than it was started on
    │   ├── InsideTransaction     `tf.db` written to inside an open transaction
    │   ├── RolledBack            a transaction went on to COMMIT after one of its statements had failed
    │   ├── NotStorable           a result that cannot be kept for an `Idempotency-Key`'s repeats
    │   ├── NotEncodable          a value, session or message of a type that cannot be written down safely
    │   ├── TooLarge              a key, value, session or message over its limit
    │   └── BadSubject            a name of messages that cannot be one, or that nobody knows
    ├── NotFound                  what was asked for does not exist; a cache's loader raises it, and it is kept (404)
    ├── BadToken                  a token of `tf.tokens` that is forged, expired, revoked or for somebody else (401)
    ├── CsrfFailed                a form that did not come from a page of this service (403)
    ├── RequestFailed             a request of the load failed; ends its journey
    │   └── WrongAnswer           the journey found an answer wrong
    ├── IdempotencyError
    │   ├── KeyInUse              the first request with this key still runs (409)
    │   └── KeyReused             another request was made under this key (422)
    └── RuntimeFailure            the runtime could not do what was asked (exit code 1)
        ├── EngineMissing         a program is not installed
        ├── EngineFailed          a program did not start, or died
        ├── StepFailed            a step of a plan failed; says what was undone
        ├── AlreadyRunning        another runtime owns this service
        └── NotRunning            no runtime answers

Messages say where, what was found, what was expected, and what to do next.
"""

from dataclasses import dataclass


class TenfoldError(Exception):
    """The root: `except TenfoldError` catches whatever tenfold raises on purpose."""


class BadInput(TenfoldError):
    """What a person wrote cannot be used; the message says where and what to write instead."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: where, what was found, what was expected, what to do."""

    path: str
    found: str
    expected: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.path}: {self.found} found, {self.expected} expected{advice}"


class BadTopology(BadInput):
    """A topology with problems; `problems` holds all of them, in file order."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class BadBindings(BadInput):
    """The bindings file is missing, unreadable, or not of this version's form."""


class BadLedger(BadInput):
    """A ledger file that cannot be read to its end."""


class BadPosition(BadInput):
    """A text that should hold positions and does not parse, or is not signed by this service."""


class TryAgain(TenfoldError):
    """Nothing was done. The same call may work `after_seconds` later."""

    def __init__(self, message: str, after_seconds: float = 1.0) -> None:
        self.after_seconds = after_seconds
        super().__init__(message)


class Overloaded(TryAgain):
    """A bounded queue is full: answer early rather than late."""


class StoreUnavailable(TryAgain):
    """A cache, session store or queue does not answer or refuses, and nothing else can take its place."""


class DeadlineExceeded(TryAgain):
    """The wait was as long as the deadline allowed. Nothing was done."""


class NoPrimary(DeadlineExceeded):
    """No writable primary appeared before the deadline. Nothing was written."""


class NoOtherRegion(TryAgain):
    """A commit counts only when another region has it, and none follows the home. Nothing was written."""


class NotCommitted(TryAgain):
    """The connection was lost before the COMMIT, or its answer was, and certainly nothing was written."""


class OutcomeUnknown(TenfoldError):
    """A COMMIT was sent, its answer was lost, and the token could not settle it before the deadline.

    The write happened once or not at all. `token` is the row to look for in `tenfold.commit`.
    """

    def __init__(self, message: str, token: str) -> None:
        self.token = token
        super().__init__(message)


class MisuseError(TenfoldError):
    """The program uses tenfold in a way that cannot be right; the message says the line to write instead."""


class NotStarted(MisuseError):
    """A `Tenfold` was used before its lifespan began, or after it ended."""


class WrongLoop(MisuseError):
    """A `Tenfold` was used on another event loop, or in another thread, than the one that it was started on."""


class InsideTransaction(MisuseError):
    """`tf.db` was written to while a transaction of the same task is open: use the transaction."""


class RolledBack(MisuseError):
    """A statement failed, the transaction went on, and its COMMIT was a ROLLBACK: nothing was written."""


class NotStorable(MisuseError):
    """A result that is no JSON, returned under an `Idempotency-Key`: it could not be given to a repeat."""


class NotEncodable(MisuseError):
    """A value, session or message holds what cannot be written down safely: the message names its type and place."""


class TooLarge(MisuseError):
    """A key, value, session or message is over its limit; nothing was stored or sent."""


class BadSubject(MisuseError):
    """A name of messages that cannot be one, or that no subscriber and no declaration knows."""


class NotFound(TenfoldError):
    """What was asked for does not exist. Raised by a cache's loader; who asks again meanwhile gets it raised again."""


class BadToken(TenfoldError):
    """A token of `tf.tokens` that does not verify; `reason` is one word: `forged`, `expired`, `revoked`, `audience`."""

    def __init__(self, message: str, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class CsrfFailed(TenfoldError):
    """A request that changes something did not bring the session's CSRF token: it may come from another site."""


class RequestFailed(TenfoldError):
    """A request of the load failed and is recorded. A journey may catch it; uncaught it ends the journey."""


class WrongAnswer(RequestFailed):
    """The answer came, and the journey found it wrong."""


class IdempotencyError(TenfoldError):
    """A request's `Idempotency-Key` cannot be honoured; `status` is the HTTP answer."""

    status = 409


class KeyInUse(IdempotencyError):
    """The first request with this key is still running and did not end before the deadline."""


class KeyReused(IdempotencyError):
    """The key was used before for a request with another body."""

    status = 422


class RuntimeFailure(TenfoldError):
    """The runtime could not do what was asked; the message says what it left and what to do."""


class EngineMissing(RuntimeFailure):
    """A program that a tier needs is not installed; the message holds the command that installs it."""


class EngineFailed(RuntimeFailure):
    """A process did not start, did not become ready, or died; the message ends with its last log lines."""


class StepFailed(RuntimeFailure):
    """A step of a plan failed; the message says which, why, and what was undone."""


class AlreadyRunning(RuntimeFailure):
    """Another runtime owns this service's state directory."""


class NotRunning(RuntimeFailure):
    """No runtime answers on the control socket."""
