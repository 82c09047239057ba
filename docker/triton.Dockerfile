# The network: NVIDIA's Triton Inference Server with torch, diffusers, timm and one bundle, exported.
#
#   docker build -f docker/triton.Dockerfile -t certify-triton --build-arg BUNDLE=digits .
#   docker run --gpus all --shm-size 1g -p 8001:8001 -p 8002:8002 certify-triton
#
# Another repository, made by `python -m models.export`, can be mounted over /models.

FROM nvcr.io/nvidia/tritonserver:25.01-py3
ARG BUNDLE=digits
# cuda, or cpu for a server without a GPU.
ARG DEVICE=cuda
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY service ./service
COPY models ./models
# Into the image's own Python: it is the one that the Python backend's stub runs. The image manages nothing else there.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
# hadolint ignore=DL3013
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check ".[embedded]"
# hadolint ignore=DL3059
RUN python3 -m models.export "${BUNDLE}" --out /models --device "${DEVICE}"
ENV PYTHONDONTWRITEBYTECODE=1 \
    OMP_WAIT_POLICY=PASSIVE
# The image's own user, triton-server.
USER 1000:1000
EXPOSE 8001 8002
HEALTHCHECK --interval=10s --timeout=3s --start-period=180s \
    CMD ["curl", "--fail", "--silent", "http://127.0.0.1:8000/v2/health/ready"]
CMD ["tritonserver", "--model-repository=/models", "--exit-on-error=true", "--exit-timeout-secs=30"]
