# syntax=docker/dockerfile:1
# The server: docker build -t affekt . && docker run --rm -p 127.0.0.1:8000:8000 -e AFFEKT_TOKEN=... affekt
# Libraries come from requirements/serve.txt: exact versions, each file checked by its hash. PyAV is among them, so that the
# server decodes the recordings of phones and browsers.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
COPY constraints.txt requirements/serve.txt ./
RUN python -m venv /opt/affekt \
    && /opt/affekt/bin/python -m pip install --require-hashes --requirement serve.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY LICENSES LICENSES
COPY src src
RUN /opt/affekt/bin/python -m pip install --no-deps . \
    && /opt/affekt/bin/affekt --version

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="affekt" \
      org.opencontainers.image.description="Speech emotion recognition over HTTP and WebSockets" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT"
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin affekt
COPY --from=build /opt/affekt /opt/affekt
COPY LICENSE NOTICE /usr/share/doc/affekt/
ENV PATH=/opt/affekt/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["affekt"]
# Without a token in AFFEKT_TOKEN the server refuses to start at an address that others can reach.
CMD ["serve", "--host", "0.0.0.0", "--log-format", "json"]
