"""The child process of one loaded model: llama.cpp's own HTTP server on a unix socket, nothing else.

`worker` starts it as `python -m aistack.engine.llama FRONT_PID RUN_DIR SOCKET_NAME` with a Launch as JSON
on stdin; it writes one line to stdout when it serves, and llama.cpp's own messages to stderr.
"""

import ctypes
import json
import os
import signal
import sys

import xllamacpp

from aistack.engine.launch import Launch

_PR_SET_PDEATHSIG = 1
_WARNINGS_AND_ERRORS = 2  # llama.cpp's information lines say nothing that the front's log does not
_POOLING = {
    "none": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_NONE,
    "mean": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN,
    "cls": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_CLS,
    "last": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST,
    "rank": xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK,
}


def parameters(launch: Launch, socket_name: str) -> xllamacpp.CommonParams:
    """`launch` in llama.cpp's terms, listening on the unix socket `socket_name`."""
    wanted = xllamacpp.CommonParams()
    wanted.model.path = launch.path
    wanted.model_alias = {launch.name}
    wanted.mmproj.path = launch.projector
    wanted.hostnames = [socket_name]  # a name that ends in .sock is a unix socket to llama.cpp
    wanted.verbosity = _WARNINGS_AND_ERRORS
    wanted.ui = False
    wanted.endpoint_metrics = True
    wanted.endpoint_slots = False
    wanted.use_jinja = True
    wanted.n_parallel = launch.slots
    wanted.n_ctx = launch.slots * launch.slot_context
    wanted.n_batch = wanted.n_ubatch = launch.batch
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = launch.threads
    wanted.n_threads_http = launch.waiting_places + 4
    wanted.n_gpu_layers = launch.gpu_layers
    wanted.fit_params = launch.gpu_layers != 0  # fitting reads the whole file twice; a CPU has nothing to fit
    wanted.cache_ram_mib = launch.cache_mib
    if launch.embedding:
        wanted.embedding = True
        wanted.pooling_type = _POOLING[launch.pooling]
    else:
        wanted.n_ubatch = 512
    return wanted


def die_with(front: int) -> None:
    """Have the kernel kill this process when the front dies, however it dies.

    After `kill -9` of the front nobody else would end us, and gigabytes of model would stay in memory
    with nobody able to reach them. The front may be gone before the kernel heard us, hence the check.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != front:
        os._exit(1)


def offer_to_kernel() -> None:
    """Be the first whom the kernel kills when memory runs out: this costs one model, not a database."""
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    try:
        os.write(descriptor, b"500")
    finally:
        os.close(descriptor)


def main() -> None:
    """Serve until killed."""
    front, run_dir, socket_name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    die_with(front)
    offer_to_kernel()
    launch = Launch(**json.load(sys.stdin))
    # Whatever llama.cpp prints goes to stderr: stdout has the one line that the front waits for.
    answer = os.dup(1)
    os.dup2(2, 1)
    os.umask(0o077)
    os.chdir(run_dir)  # a unix socket's path may have 107 bytes only; its bare name always fits
    server = xllamacpp.Server(parameters(launch, socket_name))
    os.write(answer, f"{server.listening_address}\n".encode())
    os.close(answer)
    signal.pause()


if __name__ == "__main__":
    main()
