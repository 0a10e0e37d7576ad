"""llama.cpp's own HTTP server over a GGUF file, for tests: run by an interpreter that has the wheel `xllamacpp`.

    python tests/llama_server.py model.gguf

It listens on a free port of 127.0.0.1 and prints its address; it ends with its process.
"""

import sys
import time

import xllamacpp


def main(model: str) -> None:
    """Serve until the process is ended."""
    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = 8192
    settings.n_parallel = 2
    settings.cpuparams.n_threads = 2
    server = xllamacpp.Server(settings)
    print(f"listening on {server.listening_address}", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1])
