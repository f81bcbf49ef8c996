"""Tasks for tests of launchers, in a module that loads nothing heavy."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from buttress.launching.launcher import JOB_ID
from buttress.processes import Channel, StopRequest


def carry_out(order: Any, channel: Channel) -> None:
    """One of these tasks, in a process of its own."""
    folder = Path(order["folder"])
    channel.send("at work")
    if order["do"] == "fail":
        from buttress.errors import ConfigError
        from buttress.launching.task_error import error_kept_in

        with error_kept_in(folder / "fail.json"):
            raise ConfigError("of no use")
    if order["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if order["do"] == "kill the job":
        os.kill(os.getppid(), signal.SIGKILL)
    if order["do"] in ("save", "wait"):
        with (folder / "tries").open("a") as tries:
            tries.write(f"{os.environ.get(JOB_ID)} {os.environ.get('OMP_NUM_THREADS')}\n")
        if order["do"] == "save" and (folder / "saved").exists():
            return
        stop = StopRequest()
        with stop.heard():
            (folder / "ready").write_text(str(os.getppid()))
            for _ in range(6000):
                time.sleep(0.01)
                if stop.signal:
                    (folder / "saved").write_text(stop.signal)
                    sys.exit(1)
