"""What runs in a process of service.http.processes: one call after another, each pickled, until nobody asks any more.

A message is its length, eight bytes big-endian, and so many bytes.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from typing import IO

__all__ = ("HEAD_BYTES", "message")

HEAD_BYTES = 8


def message(value: object) -> bytes:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(HEAD_BYTES, "big") + data


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the service decides what ends
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not answer
    warnings.simplefilter("ignore")  # nor write of a client's picture into the log, which has lines of JSON alone
    _serve(sys.stdin.buffer, answers)


def _serve(calls: IO[bytes], answers: IO[bytes]) -> None:
    while head := calls.read(HEAD_BYTES):
        work = pickle.loads(calls.read(int.from_bytes(head, "big")))
        answers.write(message(work()))
        answers.flush()
        del work


if __name__ == "__main__":
    main()
