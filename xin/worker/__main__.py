"""`python -m xin.worker`: what a node starts, one for each replica."""

import os
import sys

from xin.worker.main import main

if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # engines' own threads and destructors have nothing left to say
