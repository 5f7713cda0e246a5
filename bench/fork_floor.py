"""fork + exit + wait of a bare interpreter, as milliseconds in JSON. Run as a program with -SI."""

import json
import os
import sys
import time

_FORKS = 300

if __name__ == "__main__":
    samples = []
    for _ in range(_FORKS):
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        samples.append((time.perf_counter() - began) * 1000)
    json.dump(samples, sys.stdout)
