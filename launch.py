"""Run one of this release's modules: `python -I launch.py PROGRAM ARGUMENT...`.

Python's isolated mode keeps the current directory and PYTHONPATH out of a program that may run as
root; this file then adds only the folder that contains the code.
"""

import os
import runpy
import sys
from pathlib import Path

# Without this pydantic searches all installed packages for plugins at each start.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
sys.path.insert(0, str(Path(__file__).resolve().parent))
name = sys.argv.pop(1)
sys.argv[0] = name
module = {"demo": "lab.demo", "fleet": "fleet.operate"}.get(name, name)
runpy.run_module(module, run_name="__main__", alter_sys=True)
