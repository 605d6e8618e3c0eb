"""The terminal's modes: a debugger that is killed at its prompt leaves them as it needs them, without an echo.

Called by `web` after each process of the app.
"""

import os
import sys
import termios
from collections.abc import Callable
from contextlib import suppress


def remembered() -> Callable[[], None]:
    """What puts standard input's modes back as they are now; does nothing where that is no terminal."""
    try:
        descriptor = sys.stdin.fileno()
        modes = termios.tcgetattr(descriptor)
    except (termios.error, OSError, ValueError, AttributeError):
        return lambda: None

    def restore() -> None:
        with suppress(termios.error, OSError):
            if os.tcgetpgrp(descriptor) != os.getpgrp():
                return  # in the background the kernel would stop us for it
            termios.tcsetattr(descriptor, termios.TCSANOW, modes)

    return restore
