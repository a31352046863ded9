# The Observability Hub in a container: the gateway, or with other arguments any command of obs-hub, such as `hostmetrics`,
# `journal` or `db backup`. What it needs to know is in docs/container.md.
ARG PYTHON=docker.io/library/python:3.13.11-slim-trixie

FROM ${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY gateway/ gateway/
COPY receivers/ receivers/
COPY exporters/ exporters/
COPY page/ page/
COPY systemd/ systemd/
COPY otel-config/ otel-config/
# What the hub says its version is; a checkout's is what `python gateway/packaging/version.py` prints. There is no git here.
ARG VERSION=0.0.0
RUN sed -i "s/^UNKNOWN = .*/UNKNOWN = \"$VERSION\"/" gateway/packaging/version.py
RUN python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels .
RUN python -m venv --without-pip /opt/obs-hub
RUN python -m pip --python /opt/obs-hub/bin/python install --no-cache-dir --disable-pip-version-check -c constraints.txt /wheels/*.whl

FROM ${PYTHON}
LABEL org.opencontainers.image.title="Observability Hub" \
      org.opencontainers.image.description="An OpenTelemetry-native telemetry gateway: OTLP in, TimescaleDB or PostgreSQL out" \
      org.opencontainers.image.licenses="Apache-2.0"
# journalctl, for `obs-hub journal`. PostgreSQL is in the venv, with pg_dump and pg_restore.
RUN apt-get update && apt-get install --yes --no-install-recommends systemd && rm -rf /var/lib/apt/lists/* && \
    groupadd --gid 10001 obs-hub && useradd --uid 10001 --gid 10001 --home-dir /var/lib/obs-hub --shell /usr/sbin/nologin obs-hub && \
    install --directory --owner obs-hub --group obs-hub --mode 700 /var/lib/obs-hub
COPY --from=build /opt/obs-hub/ /opt/obs-hub/
ENV PATH=/opt/obs-hub/bin:/usr/local/bin:/usr/bin:/bin \
    OBSHUB_DATA_DIR=/var/lib/obs-hub \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/obs-hub
VOLUME /var/lib/obs-hub
EXPOSE 4317 4318 8085
# Of the gateway: that it takes telemetry. Other commands have no front, and are run with --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m --start-interval=2s --retries=3 \
    CMD ["python", "-S", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8085/api/v1/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["obs-hub"]
CMD ["serve"]
