"""Makes a Python process that was started by a collection inherit its common handle, before its program begins.

processes.py puts this directory into the child's PYTHONPATH. First of all that is undone, so that the program and its
own children see the environment that they would have without pykcov; then the sitecustomize comes whose place this is.
"""

import os
import sys


def _begin() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    inherited = os.environ.pop("PYKCOV_INHERIT", "")
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if path[0] == here:
        if path[1:]:
            os.environ["PYTHONPATH"] = os.pathsep.join(path[1:])
        else:
            del os.environ["PYTHONPATH"]
    sys.path[:] = [entry for entry in sys.path if entry != here]
    this = sys.modules.pop("sitecustomize")
    try:
        __import__("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", this)
        if inherited:
            try:
                from pykcov.carry import waiting
            except ImportError:  # another Python, which has no pykcov
                pass
            else:
                waiting.begin(inherited)


_begin()
