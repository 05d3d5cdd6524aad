# A worker for the master at DTE_MASTER:
#   docker build --file deploy/worker.Dockerfile --tag dte-worker .
#   docker run --publish 6000:6000 --env DTE_MASTER=http://HOST:5000 --env DTE_TOKEN dte-worker
# The master calls it back there, so one more on the same host needs a DTE_WORKER_PORT of its own.

# The stage `build` is the same for a master and a worker, so that it is built once for both.
FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# What dte needs comes before dte: it seldom changes, and takes the most time.
COPY requirements requirements
RUN pip install --require-hashes --requirement requirements/build.txt \
    && python -m venv --without-pip /opt/dte \
    && pip --python /opt/dte install --require-hashes --requirement requirements/run.txt
COPY . ./
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/dte install --no-deps dist/*.whl

FROM python:3.12-slim
# The volume with the token: its owner is that of this folder in the image that is started first.
RUN install --directory --owner=10001 --group=10001 --mode=700 /run/dte
# A number, because Kubernetes' runAsNonRoot cannot tell from a name that it is not root.
USER 10001:10001
# An image with handlers of your own is made from this one: see examples/own-handlers. The user owns
# the environment, so that pip can install there what the handlers need.
COPY --from=build --chown=10001:10001 /opt/dte /opt/dte
COPY deploy/dte-health /usr/local/bin/
ENV PATH=/opt/dte/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The health check asks at 127.0.0.1, and the master calls at another address.
ENV DTE_WORKER_HOST=0.0.0.0 DTE_WORKER_PORT=6000
RUN python -m ensurepip --default-pip
WORKDIR /handlers
# In Kubernetes, a service named dte-worker sets DTE_WORKER_PORT unless enableServiceLinks is false.
EXPOSE 6000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD dte-health "$DTE_WORKER_PORT" /health
ENTRYPOINT ["dte", "worker"]
