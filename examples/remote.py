"""The documentation program of the patch that brought remote coverage, in Python, in its order.

The patch's program collects what the kernel's background threads do under the handle 0x42. Here
a thread of this program plays the kernel: it is annotated, and was there before the device.
With the kernel's device and a handle as arguments, the kernel plays itself:

    remote.py /sys/kernel/debug/kcov 0x0100000000000001    # what happens on USB bus 1
"""

import struct
import sys
import threading
import time

import pykcov

KCOV_REMOTE_MAX_HANDLES = 0x10000

KCOV_INIT_TRACE = 0x80086301
KCOV_ENABLE = 0x6364
KCOV_DISABLE = 0x6365
KCOV_REMOTE_ENABLE = 0x40186366

COVER_SIZE = 64 << 10  # words

KCOV_TRACE_PC = 0
KCOV_TRACE_CMP = 1

KCOV_REMOTE_ID = int(sys.argv[2], 0) if sys.argv[2:] else 0x42


def main() -> None:
    kcov = pykcov.open(*sys.argv[1:2])
    kcov.ioctl(KCOV_INIT_TRACE, COVER_SIZE)
    cover = kcov.mmap(COVER_SIZE * 8)

    # struct kcov_remote_arg: trace_mode, area_size, num_handles, padding, common_handle, handles[1]
    arg = struct.pack("=III4xQQ", KCOV_TRACE_PC, COVER_SIZE, 1, 0, KCOV_REMOTE_ID)
    kcov.ioctl(KCOV_REMOTE_ENABLE, arg)

    # Somebody has to execute a section annotated with KCOV_REMOTE_ID. Our background thread does.
    time.sleep(0.5)

    n = cover[0]
    for i in range(n):
        print(f"{cover[i + 1]:#x}  {where(cover[i + 1])}")
    kcov.ioctl(KCOV_DISABLE, 0)
    cover.release()
    kcov.close()


# What is not in the patch's program: the annotated code, and the symbols of the PCs.


def hub_event(port: int) -> str:
    if port % 2:
        return "connected"
    return "idle"


def background(stop: threading.Event) -> None:
    port = 0
    while not stop.wait(0.1):
        with pykcov.remote(KCOV_REMOTE_ID):
            hub_event(port)
        port += 1


def where(pc: int) -> str:
    location = pykcov.symbolize(pc)
    return f"{location.kind:<5} {location.function}, line {location.line}"


if __name__ == "__main__":
    stop = threading.Event()
    thread = threading.Thread(target=background, args=(stop,), name="hub")
    thread.start()
    try:
        main()
    finally:
        stop.set()
        thread.join()
