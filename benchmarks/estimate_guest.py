"""Runs ON THE EMULATED BOARD: one network under ncnn, first on the clock, then between the counting plugin's
marks.

    estimate_guest.py PARAM WIDTH HEIGHT CHANNELS TIMED COUNTED

Weights are empty, as in ncnn's own benchmark. Prints one JSON line: the nanoseconds of each inference on the
clock. Only the standard library and ncnn.
"""

import ctypes
import json
import mmap
import os
import signal
import sys
import time

import ncnn

ARM, BEGIN, END, DISARM = 96, 97, 98, 99  # harness/emulation/plugins/count.c
HINT, RETURN = 0xD503201F, 0xD65F03C0
BUSY_LOOP = "/run/hil/spin.pid"  # it would take 4 ms out of a call every 1.3 s (docs/emulated-device.md)


def mark(number):
    """Return a function that executes HINT #number, which does nothing but show itself to the plugin."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write((HINT | number << 5).to_bytes(4, "little") + RETURN.to_bytes(4, "little"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    function = ctypes.CFUNCTYPE(None)(address)
    function.page = page  # it stays as long as the function
    return function


def load(path):
    """Return the network with the allocators that ncnn's benchmark uses, and those allocators: they outlive
    it.
    """
    allocators = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
    net = ncnn.Net()
    net.opt.lightmode = True
    net.opt.num_threads = 1
    net.opt.blob_allocator, net.opt.workspace_allocator = allocators
    if net.load_param(path) or net.load_model(ncnn.DataReaderFromEmpty()):
        raise SystemExit("ncnn can't load " + path)
    return net, allocators


def main(path, width, height, channels, timed, counted):
    net, _allocators = load(path)
    name, outputs = net.input_names()[0], net.output_names()
    image = ncnn.Mat((width, height, channels))
    image.fill(0.01)
    marks = {number: mark(number) for number in (ARM, BEGIN, END, DISARM)}

    def infer():
        extractor = net.create_extractor()
        extractor.input(name, image)
        for output in outputs:
            extractor.extract(output)

    with open(BUSY_LOOP, encoding="ascii") as file:
        busy_loop = int(file.read())
    os.kill(busy_loop, signal.SIGSTOP)
    try:
        times_ns = []
        for _ in range(timed):
            begin_ns = time.monotonic_ns()
            infer()
            times_ns.append(time.monotonic_ns() - begin_ns)
        marks[ARM]()
        infer()  # counted too, into the caches only
        for _ in range(counted):
            marks[BEGIN]()
            infer()
            marks[END]()
        marks[DISARM]()
    finally:
        os.kill(busy_loop, signal.SIGCONT)
    print(json.dumps({"times_ns": times_ns}), flush=True)
    # the blobs that Python still holds outlive their allocators otherwise, which ncnn calls fatal
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:7]))
