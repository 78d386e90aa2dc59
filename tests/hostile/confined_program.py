"""A program that misbehaves on demand, for tests of `kit/limited_process`."""

from __future__ import annotations

import os
import signal
import time

from kurir.kit.limited_process import serve


def handle(job: bytes) -> bytes:
    match job:
        case b"memory":
            return bytes(500_000_000)[:1]
        case b"cpu":
            while True:
                pass
        case b"sleep":
            time.sleep(60)
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"exit":
            os._exit(3)
        case b"raise":
            raise ValueError("what it says")
        case b"long":
            return bytes(10_000)
        case b"environment":
            return " ".join(sorted(os.environ)).encode()
    return job.upper()


if __name__ == "__main__":
    serve(handle)
