# plivotx in a container.  Build:  docker build -t plivotx .      docs/operations.md tells how to run it.
#
# What this file does was done step by step without Docker (a wheel, a clean environment, the health check), and hadolint
# finds nothing wrong with it; an image was never built of it where plivotx is developed, for want of a Docker daemon.

FROM python:3.11-slim AS build
WORKDIR /src
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY plivotx plivotx
COPY plugins plugins
COPY conf conf
COPY twisted twisted
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.11-slim
RUN useradd --system --uid 808 --user-group --home-dir /var/lib/plivotx --create-home --shell /usr/sbin/nologin plivotx
# Of plivotx there is one wheel.  The last line has Twisted write its list of plugins, which the server's own user could not.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels plivotx \
    && install -D -m 0644 /usr/local/share/plivotx/conf/plivotx.conf /etc/plivotx/plivotx.conf \
    && twistd plivotx --help > /dev/null
USER 808
WORKDIR /var/lib/plivotx
ENV PYTHONUNBUFFERED=1 \
    PLIVOTX_LOG=sqlite:/var/lib/plivotx/plivotx.sqlite
VOLUME /var/lib/plivotx
EXPOSE 8088
# It asks the API, and so the log; ALLOWED_IPS, where it is set, must hold 127.0.0.1 for it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s \
    CMD ["plivotx", "calls", "--config", "/etc/plivotx/plivotx.conf", "--limit", "1", "--timeout", "5", "--json"]
# As PID 1 it is told to stop by SIGTERM, ends within two seconds, and leaves its calls up.
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "plivotx"]
CMD ["--config", "/etc/plivotx/plivotx.conf"]
