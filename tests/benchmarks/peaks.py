"""Peak memory of a job in a separate process."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"

BEFORE = """
import json, re, sys
sys.path.insert(0, sys.argv[1])
job = json.loads(open(sys.argv[2]).read())
"""
# UNIT kB; ru_maxrss would start from the memory of the parent
AFTER = """
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024)
"""


def peak_mb(code: str, job: dict[str, Any]) -> float:
    """Run Python code that can use the library and `job`, and return the peak memory of its process in MB."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "job.json"
        path.write_text(json.dumps(job))
        command = [sys.executable, "-c", BEFORE + code + AFTER, str(WORKFLOW), str(path)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
