"""Imported by the fork server before anything else, and nowhere else: Ctrl-C must not reach it.

The server imports torch and Lightning for seconds, during which the terminal sends it the SIGINT that
is meant for the driver. Trials are forked with SIGINT ignored and take it up again in a process group
of their own (see `child`).
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
