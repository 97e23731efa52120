FROM python:3.11-slim-bookworm AS dependencies
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/commonwatt
WORKDIR /src
# What installs and builds is pinned as what runs is.
COPY deploy/build-pins.txt ./
RUN python -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --quiet --no-deps --require-hashes -r build-pins.txt \
    && /opt/uv/bin/uv venv --quiet /opt/commonwatt
# Dependencies change far less often than the source: a layer of their own.
# Whole, versions and hashes (scripts/pins): what the index serves is what was looked at, or nothing.
COPY deploy/pins.txt ./
RUN /opt/uv/bin/uv pip install --quiet --no-cache --compile-bytecode --no-deps --require-hashes -r pins.txt
# What libraries bring along to test and to show themselves with; the source lies beside them.
RUN cd /opt/commonwatt/lib/python3.11/site-packages \
    && find . -depth -type d \( -name tests -o -name _tests -o -name SelfTest \) -exec rm -r {} + \
    && rm -rf examples && echo /opt/source > commonwatt-source.pth

FROM dependencies AS source
COPY pyproject.toml LICENSE README.md cli.py ./
COPY wire ./wire
COPY consensus ./consensus
COPY market ./market
COPY hems ./hems
COPY study ./study
COPY node ./node
COPY testnet ./testnet
# Built by what is pinned in /opt/uv; installed for the Python that runs it, whose path its command names.
RUN /opt/uv/bin/uv build --quiet --no-cache --wheel --no-build-isolation --python /opt/uv/bin/python --out-dir /wheel . \
    && /opt/uv/bin/uv pip install --quiet --no-cache --compile-bytecode --no-deps --target /opt/source /wheel/*.whl

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Commonwatt" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --create-home --home-dir /var/lib/commonwatt commonwatt \
    && mkdir /home-data /street && chown commonwatt: /home-data /street
COPY --from=dependencies /opt/commonwatt /opt/commonwatt
COPY --from=source /opt/source /opt/source
ENV PATH=/opt/source/bin:/opt/commonwatt/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER commonwatt
WORKDIR /home-data
STOPSIGNAL SIGTERM
EXPOSE 4600
HEALTHCHECK --interval=20s --timeout=20s --start-period=180s --retries=5 \
    CMD ["python", "-m", "node.health", "/home-data/data"]
ENTRYPOINT ["commonwatt"]
CMD ["run", "--config", "/home-data/node.toml"]
