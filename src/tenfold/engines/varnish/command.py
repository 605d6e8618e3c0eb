"""How Varnish is found, started and stopped. Called by the runtime. Pure but for looking where the program is."""

import shutil
from pathlib import Path

from tenfold import engines, errors
from tenfold.engines.varnish import render, settings

INSTALL = "apt-get install varnish varnish-modules"

XKEY = "varnish/vmods/libvmod_xkey.so"
"""What varnish-modules brings: the index by tag."""

UNLOGGED = (
    *("VCL_call", "VCL_return", "VCL_use", "Hash", "Hit", "Timestamp", "ReqAcct"),
    *("ReqHeader", "ReqUnset", "RespHeader", "RespUnset"),
)

PARAMETERS = {
    # A response may carry many tags: 32 KiB of them. More than 8 KiB in one header is an error otherwise.
    "http_resp_hdr_len": "64k",
    "http_resp_size": "128k",
    "http_req_hdr_len": "32k",
    "http_req_size": "64k",
    "workspace_backend": "384k",
    "workspace_client": "192k",
    # Fresh, stale, and how long: VCL says it, and nothing is guessed.
    "default_ttl": "0",
    "default_grace": "0",
    "default_keep": "0",
    # Everything that is kept is within the memory that the topology gives.
    "shortlived": "0",
    # Nobody reads the log of every request. It lies in a file that is written all the time: a small one, and without
    # what takes a quarter of the time of a hit. `param.set vsl_mask default` brings that back.
    "vsl_space": "1m",
    "vsl_mask": ",".join(f"-{tag}" for tag in UNLOGGED),
    # Longer than the front door keeps an idle connection: it closes first.
    "timeout_idle": "30s",
    # An origin that refused a connection is tried again by the next request: it may have opened since.
    "backend_remote_error_holddown": "0",
    "backend_local_error_holddown": "0",
    # A large answer may drive out many small ones.
    "nuke_limit": "10000",
    "vcc_allow_inline_c": "on",
    "thread_pools": "2",
    "thread_pool_min": "20",
}


def locate() -> Path | None:
    """The program; None when it, or the modules that purge by tag, are not installed."""
    found = shutil.which("varnishd", path="/usr/sbin:/usr/local/sbin") or shutil.which("varnishd")
    has_modules = any(folder.glob(f"*/{XKEY}") for folder in (Path("/usr/lib"),))
    return Path(found) if found and has_modules else None


def command(seat: engines.Seat) -> engines.Command:
    """The manager process, which compiles and starts the one that serves. Raises EngineMissing.

    The compiler takes a second, and many on a busy machine. Varnish ends when the VCL does not compile; a serving
    process that dies is started again by its manager, empty.
    """
    program = locate()
    if program is None:
        raise errors.EngineMissing(f"varnish: not found, or without its module xkey; install both: {INSTALL}")
    wanted = settings.of(seat)
    parameters = tuple(word for name, value in PARAMETERS.items() for word in ("-p", f"{name}={value}"))
    argv = (
        *(str(program), "-F", "-j", "none", "-n", str(settings.work_folder(seat)), "-i", wanted.name),
        *("-a", f"edge={wanted.address}:{wanted.port},HTTP"),
        *("-a", f"purge={wanted.address}:{wanted.purge_port},HTTP"),
        *("-T", f"{wanted.address}:{settings.CONSOLE_PORT}", "-S", str(seat.config / render.SECRET)),
        *("-f", "", "-I", str(seat.config / render.START), "-s", f"malloc,{wanted.memory_bytes}b"),
        *parameters,
    )
    return engines.Command(argv=argv, grace_seconds=10.0, start_seconds=60.0)
