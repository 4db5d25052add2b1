import subprocess
import sys

PROGRAM = """
from workers.vital_thread import vital_thread

def fail():
    raise RuntimeError("broken")

thread = vital_thread("writer", fail)
thread.start()
thread.join(20)
print("still here")
"""


def test_a_process_ends_with_the_thread_that_it_cant_do_without() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 70
    assert "still here" not in ended.stdout
