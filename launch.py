"""Run one of this release's modules: `python -I launch.py MODULE ARGUMENT...`.

Python's isolated mode keeps the current directory and PYTHONPATH out of a program that may run as
root; this file then adds the one folder the code is in.
"""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
module = sys.argv.pop(1)
sys.argv[0] = module
runpy.run_module("lab.demo" if module == "demo" else module, run_name="__main__", alter_sys=True)
