# An image that serves one small model and needs no network when it runs: the model is part of it.
#
#   docker build --tag smidgen .
#   docker run --rm --env SMIDGEN_API_KEY=choose-one --publish 127.0.0.1:11434:11434 smidgen
#
# Other models of the catalog: --build-arg MODEL=gemma3:270m. An index of your own: --build-arg PIP_INDEX_URL=...

FROM python:3.12-slim-bookworm AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG MODEL=smollm2:135m
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 SMIDGEN_HOME=/var/lib/smidgen
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/smidgen \
    && /opt/smidgen/bin/pip install --no-cache-dir --constraint constraints.txt . \
    && /opt/smidgen/bin/smidgen pull "$MODEL"

# llama.cpp's library asks the system for libgomp.
FROM python:3.12-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/smidgen --no-create-home --shell /usr/sbin/nologin smidgen
COPY --from=build /opt/smidgen /opt/smidgen
COPY --from=build --chown=10001:10001 /var/lib/smidgen /var/lib/smidgen
ENV PATH=/opt/smidgen/bin:$PATH SMIDGEN_HOME=/var/lib/smidgen HOME=/var/lib/smidgen
USER 10001:10001
WORKDIR /var/lib/smidgen
EXPOSE 11434
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:11434/health')"]
ENTRYPOINT ["smidgen"]
CMD ["serve", "--host", "0.0.0.0"]
