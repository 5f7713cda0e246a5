"""Entry of a fresh interpreter: ``python3.X bootstrap.py``, where no zygote can be forked.

Used for exec wrappers (AWS_LAMBDA_EXEC_WRAPPER) and for environments that only a new interpreter
can obey. Finds the package beside itself (``bootstrap.py`` next to ``firelet/``) or around itself.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    _here = os.path.dirname(os.path.abspath(__file__))
    if os.path.isdir(os.path.join(_here, "firelet")):
        sys.path.insert(0, _here)
    else:
        sys.path.insert(0, os.path.dirname(os.path.dirname(_here)))

    from firelet.guest.python_runtime import run

    run()
