"""Requests to stop: a cluster that needs the node, a time limit, Ctrl-C."""

import signal


class Interrupted(Exception):
    """The run was asked to stop and has saved a checkpoint."""


class Stop:
    """True once SIGTERM or SIGINT has arrived. The loop checks it between steps, so that a step always finishes."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def listen(self) -> "Stop":
        """Replace Python's handlers for both signals. Call it from the main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        return self

    def _note(self, number: int, _: object) -> None:
        self.signal = signal.Signals(number)

    def __bool__(self) -> bool:
        return self.signal is not None
