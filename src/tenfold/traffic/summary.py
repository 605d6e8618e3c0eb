"""Reports and verdicts as text for people. Pure; called by the command line and drills."""

from collections.abc import Sequence

from tenfold.traffic import report, verify

NOTEWORTHY_SECONDS = 0.02
"""How late the load generator may be before the summary says so."""

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def progress(elapsed_seconds: float, interval: report.Interval, so_far: report.Report, backlog: int) -> str:
    """One line for the last second."""
    waiting = f"  unsent {backlog}" if backlog else ""
    return (
        f"{elapsed_seconds:6.0f} s  {interval.requests:5d} answered"
        f"  p50 {duration(interval.p50_seconds):>7}  p99 {duration(interval.p99_seconds):>7}"
        f"  failed {so_far.failed}  repeated {so_far.repeated}{waiting}"
    )


def report_lines(found: report.Report) -> list[str]:
    """The summary at the end of a run."""
    per_second = found.requests / found.seconds if found.seconds else 0.0
    lines = [
        f"requests     {found.requests:,} in {found.seconds:.1f} s ({per_second:.1f} a second)",
        f"failed       {found.failed:,}",
        *_failures(found),
        f"repeated     {found.repeated:,}",
        f"writes       {found.writes_acknowledged:,} acknowledged, "
        f"longest pause between two {duration(found.longest_write_gap_seconds)}",
        f"own writes   {found.own_reads:,} read back, {found.stale_reads:,} missing",
    ]
    if found.refused:
        text = f"refused      {found.refused:,} with 503 and when to come back: more than the service can carry"
        lines.insert(2, text)
    if found.interrupted:
        lines.insert(2, f"interrupted  {found.interrupted:,} cut short or not sent, because the run was stopped")
    if found.slowest is not None:
        slowest = found.slowest
        lines.append(
            f"longest wait {duration(slowest.latency)}: {slowest.name} at {slowest.intended:.1f} s, "
            f"{f'status {slowest.status}' if slowest.status else 'no answer'}, trace {slowest.trace}"
        )
    if found.late_seconds > NOTEWORTHY_SECONDS:
        lines.append(f"note         this machine was busy: requests went out up to {duration(found.late_seconds)} late")
    return [*lines, "", "latency from the moment each request was due:", *_latencies(found), *_regions(found)]


def verdict_lines(found: verify.Verdict) -> list[str]:
    """The verdict as a table and a sentence."""
    head = ("write", "acknowledged", "unanswered", "consumed", "found", "lost", "doubled")
    rows = [
        (one.kind, *(f"{number:,}" for number in (one.acknowledged, one.unanswered, one.consumed)), *_compared(one))
        for one in found.kinds
    ]
    lines = [*table([head, *rows]), "", f"own writes read back: {found.own_reads:,}, missing: {len(found.stale):,}"]
    if not found.is_complete:
        torn = ", and its last line is torn" if found.is_torn else ""
        lines.append(f"the run was killed: its ledger has no closing record{torn}; compared is what it holds")
    return [*lines, *_violations(found), _sentence(found)]


def duration(seconds: float) -> str:
    """`870us`, `4.1ms`, `1.93s`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    return f"{seconds * 1e3:.1f}ms" if seconds < 1 else f"{seconds:.2f}s"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]


def _failures(found: report.Report) -> list[str]:
    lines = []
    for reason, tally in sorted(found.failures.items()):
        lines.append(f"  {reason}: {tally.count:,}")
        lines += [f"    {example}" for example in tally.examples]
    return lines


def _latencies(found: report.Report) -> list[str]:
    head = ("", "requests", *(f"p{percent:g}" for percent in PERCENTILES), "max")
    named = [("all", found.total), *sorted(found.by_name.items())]
    return table([head, *(_latency_row(name, latencies) for name, latencies in named)])


def _regions(found: report.Report) -> list[str]:
    """What name servers sent where."""
    if not found.by_region:
        return []
    head = ("region", "requests", *(f"p{percent:g}" for percent in PERCENTILES), "max")
    rows = [_latency_row(name, latencies) for name, latencies in sorted(found.by_region.items())]
    return ["", *table([head, *rows])]


def _latency_row(name: str, latencies: report.Latencies) -> tuple[str, ...]:
    figures = (duration(latencies.percentile(percent)) for percent in PERCENTILES)
    return (name, f"{latencies.count:,}", *figures, duration(latencies.longest_seconds))


def _compared(one: verify.KindVerdict) -> tuple[str, str, str]:
    if not one.has_check:
        return ("-", "-", "-")
    return (f"{one.found:,}", f"{len(one.lost):,}", f"{len(one.doubled):,}")


def _violations(found: verify.Verdict) -> list[str]:
    lines = []
    for one in found.kinds:
        if not one.has_check:
            lines.append(f"{one.kind}: not compared; add a query for it to CHECKS")
        for name, references in (("lost", one.lost), ("doubled", one.doubled)):
            lines += [f"{name}: {one.kind} {reference}" for reference in references[: verify.MOST_LISTED]]
            if len(references) > verify.MOST_LISTED:
                lines.append(f"{name}: ... and {len(references) - verify.MOST_LISTED:,} more of {one.kind}")
    lines += [
        f"missing: {one.kind} {one.reference} in session {one.session} at {one.at:.3f} s, "
        f"written at {one.written_at or '?'}, read at {one.read_at or '?'}, trace {one.trace}"
        for one in found.stale[: verify.MOST_LISTED]
    ]
    return lines


def _sentence(found: verify.Verdict) -> str:
    if found.is_clean:
        return "verdict: every acknowledged write is there exactly once, and every session saw its own writes"
    return (
        f"verdict: VIOLATED: {found.lost:,} lost, {found.doubled:,} doubled, {len(found.stale):,} own writes not seen"
    )
