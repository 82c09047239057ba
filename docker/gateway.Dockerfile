# The gateway: HTTP, statistics, metrics. Without torch, unless EXTRAS=[embedded] puts the network into this process.
#
#   docker build -f docker/gateway.Dockerfile -t certify-gateway .
#   docker build -f docker/gateway.Dockerfile -t certify-embedded --build-arg EXTRAS=[embedded] .
#   docker run --read-only -p 8000:8000 certify-embedded serve --backend embedded

FROM python:3.12.8-slim-bookworm AS build
ARG EXTRAS=""
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY service ./service
COPY models ./models
RUN python -m venv /opt/certify
# hadolint ignore=DL3059
RUN /opt/certify/bin/python -m pip install --no-cache-dir --disable-pip-version-check ".${EXTRAS}"

FROM python:3.12.8-slim-bookworm
RUN groupadd --gid 10001 certify && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin certify
COPY --from=build /opt/certify /opt/certify
# Nothing is written: no bytecode, no cache, no log file. Threads that wait must not spin (docs/performance.md).
ENV PATH=/opt/certify/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=PASSIVE \
    CERTIFY_HTTP_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["certify"]
CMD ["serve", "--backend", "triton", "--triton-url", "triton:8001"]
