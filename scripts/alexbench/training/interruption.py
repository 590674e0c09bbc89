"""Being asked to stop: a cluster that needs the node, a time limit, Ctrl-C."""

import signal


class Interrupted(Exception):
    """The run was asked to stop and has saved where it stands."""


class Stop:
    """True once SIGTERM or SIGINT has arrived. The loop looks at it between steps, so that nothing is cut in half."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def listen(self) -> "Stop":
        """Take the signals over from Python's own handlers; of the main thread alone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        return self

    def _note(self, number: int, _: object) -> None:
        self.signal = signal.Signals(number)

    def __bool__(self) -> bool:
        return self.signal is not None
