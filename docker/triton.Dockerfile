# The network: NVIDIA's Triton Inference Server with what runs it, torch or openvino, and one bundle, exported.
#
#   docker build -f docker/triton.Dockerfile -t certify-triton --build-arg BUNDLE=digits .
#   docker run --gpus all --shm-size 1g -p 8001:8001 -p 8002:8002 certify-triton
#
# For a server without a GPU, with the fast engine for a CPU and one process for each of 8 cores:
#
#   docker build -f docker/triton.Dockerfile -t certify-triton-cpu \
#       --build-arg DEVICE=cpu --build-arg EXTRAS=cpu --build-arg INSTANCES=8 .
#
# Another repository, made by `certify bundles export`, can be mounted over /models.

# By tag alone: no registry was at hand to look up its digest. CUDA 13: a GPU's driver must be 580 or later.
FROM nvcr.io/nvidia/tritonserver:26.09-py3
# torch.compile on a GPU builds its launchers with a C compiler; of its needs the image has only Python's headers.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ARG BUNDLE=digits
# cuda, or cpu for a server without a GPU.
ARG DEVICE=cuda
# torch, for a GPU. cpu: openvino, which `auto` takes on a CPU, and no torch.
ARG EXTRAS=torch
ARG ENGINE=auto
# Processes that run the model. Unset: one on a GPU; on a CPU one for each core of the machine that builds, so set it.
ARG INSTANCES=
# Samples computed together, as `certify tune-runtime` advises. Unset: the device's default.
ARG MICRO_BATCH=
WORKDIR /src
COPY pyproject.toml constraints.txt install.py README.md LICENSE ./
COPY certify ./certify
COPY service ./service
COPY models ./models
# Into the image's own Python: it is the one that the Python backend's stub runs. The image manages nothing else there.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
# Every file against its hash in constraints.txt. EXTRAS is a list of words, hence no quotes.
# openvino-telemetry, if it came along, reports every start to its makers; openvino does without it.
# hadolint ignore=SC2086
RUN PIP_NO_CACHE_DIR=1 python3 install.py ${EXTRAS} \
    && python3 -m pip uninstall --yes openvino-telemetry
# hadolint ignore=DL3059
RUN python3 -m certify bundles export "${BUNDLE}" --out /models --device "${DEVICE}" --engine "${ENGINE}" \
    ${INSTANCES:+--instances "${INSTANCES}"} ${MICRO_BATCH:+--micro-batch "${MICRO_BATCH}"}
# HOME and caches: compiled kernels go where a read-only root file system leaves room.
ENV PYTHONDONTWRITEBYTECODE=1 \
    OMP_WAIT_POLICY=PASSIVE \
    HOME=/tmp \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    TRITON_CACHE_DIR=/tmp/triton
# The image's own user, triton-server.
USER 1000:1000
EXPOSE 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s \
    CMD ["python3", "-c", "import tritonclient.grpc as g; assert g.InferenceServerClient('127.0.0.1:8001').is_server_ready(client_timeout=3)"]
# A model's process loads torch before it answers; on a busy machine that takes longer than Triton's 30 seconds.
# Closed: HTTP, which nothing of ours uses, and what lets a client of gRPC register memory or have files written. Header
# names arrive in lower case, so nobody has the key.
CMD ["tritonserver", "--model-repository=/models", "--exit-on-error=true", "--exit-timeout-secs=30", \
     "--allow-http=false", "--grpc-restricted-protocol=shared-memory,trace,logging:Nobody=has-this-key", \
     "--backend-config=python,stub-timeout-seconds=180"]
