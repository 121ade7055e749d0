# kexport with its extra, its four sinks and theirs, for a user without a name, on a read-only root.
#
#   docker build -t kexport .
#
# The base must bring python3 with venv and glibc; nothing else of it is used. In the last stage nothing is run, so
# that no shell is needed there.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# Wheels and compiled files must not depend on when they were made; zip knows no time before 1980.
ENV SOURCE_DATE_EPOCH=315532800 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN ["python3", "-m", "venv", "/build"]
# Everything that is pinned, hashes checked; what follows takes from here and asks nobody.
COPY constraints.txt .
RUN ["/build/bin/python", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", \
     "--require-hashes", "--requirement=constraints.txt", "--dest=/wheels"]
RUN ["/build/bin/python", "-m", "pip", "install", "--quiet", "--no-index", "--find-links=/wheels", "hatchling"]
COPY pyproject.toml README.md LICENSE CHANGELOG.md config.toml ./
COPY plugins plugins
COPY kexport kexport
RUN ["/build/bin/python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", \
     "--wheel-dir=/wheels", ".", "./plugins/kexport-file", "./plugins/kexport-kafka", "./plugins/kexport-otlp", \
     "./plugins/kexport-s3"]
# No pip in the environment that is kept.
RUN ["python3", "-m", "venv", "--without-pip", "/opt/kexport"]
RUN ["/build/bin/python", "-m", "pip", "--python=/opt/kexport/bin/python", "install", "--quiet", "--no-index", \
     "--find-links=/wheels", "kexport[cel,otlp-metrics]", "kexport-file", "kexport-kafka", \
     "kexport-otlp[grpc]", "kexport-s3[parquet]"]
# botocore asks for an older python-dateutil than kubernetes does, and works with this one (pyproject.toml).
RUN ["/build/bin/python", "-m", "pip", "--python=/opt/kexport/bin/python", "install", "--quiet", "--no-index", \
     "--no-deps", "--find-links=/wheels", "boto3", "botocore", "jmespath", "s3transfer"]
COPY tests/testbed/sbom.py .
RUN ["/opt/kexport/bin/python", "sbom.py", "/opt/kexport/sbom.cdx.json"]

FROM ${BASE}
LABEL org.opencontainers.image.title="kexport" \
      org.opencontainers.image.description="Streams Kubernetes changes as CloudEvents into pluggable sinks" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/kexport /opt/kexport
ENV PATH=/opt/kexport/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["kexport"]
CMD ["run", "--config=/etc/kexport/config.toml"]
