# The gateway: HTTP, statistics, metrics. EXTRAS may put the network into this process: cpu, which reads a bundle's graph
# with openvino, or torch, which reads its networks.
#
#   docker build -f docker/gateway.Dockerfile -t certify-gateway .
#   docker build -f docker/gateway.Dockerfile -t certify-embedded --build-arg EXTRAS="cpu tracing signing" .
#   docker run --read-only --tmpfs /tmp -p 8000:8000 certify-embedded serve --backend embedded

FROM python:3.12.8-slim-bookworm@sha256:2199a62885a12290dc9c5be3ca0681d367576ab7bf037da120e564723292a2f0 AS build
# tracing: spans are a setting, not another image.
ARG EXTRAS="tracing signing"
WORKDIR /src
COPY pyproject.toml constraints.txt install.py README.md LICENSE ./
COPY certify ./certify
COPY service ./service
COPY models ./models
RUN python -m venv /opt/certify
# Every file against its hash in constraints.txt. EXTRAS is a list of words, hence no quotes.
# openvino-telemetry reports every start to its makers; openvino does without it. pip and setuptools have done their work.
# hadolint ignore=DL3059,SC2086
RUN PIP_NO_CACHE_DIR=1 /opt/certify/bin/python install.py --small ${EXTRAS} \
    && /opt/certify/bin/python -m pip uninstall --yes openvino-telemetry setuptools pip
# No weights where nothing can run them. Bytecode of what is loaded, since nothing is written later; not held against
# dates, which a layer may change.
RUN set -- /opt/certify/lib/python3*/site-packages \
    && if [ ! -d "$1/openvino" ] && [ ! -d "$1/torch" ]; then rm -r "$1/certify/models/bundles"; fi \
    && /opt/certify/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        -x "pygments/lexers|scipy/(?!_lib|special)" "$1"

FROM python:3.12.8-slim-bookworm@sha256:2199a62885a12290dc9c5be3ca0681d367576ab7bf037da120e564723292a2f0
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
