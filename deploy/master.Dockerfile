# A master:
#   docker build --file deploy/master.Dockerfile --tag dte-master .
#   docker run --name master --publish 5000:5000 --volume dte-journal:/var/lib/dte dte-master
# It listens on all addresses, so clients and workers need tokens:
#   docker exec master dte token new client NAME
#   docker exec master dte token new worker NAME

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
COPY --from=build /opt/dte /opt/dte
COPY deploy/dte-master deploy/dte-health /usr/local/bin/
ENV PATH=/opt/dte/bin:$PATH DTE_MASTER_HOST=* DTE_MASTER_PORT=5000 DTE_JOURNAL=/var/lib/dte/dte.db
RUN install --directory --owner=10001 --group=10001 --mode=700 /var/lib/dte /run/dte
VOLUME /var/lib/dte /run/dte
# A number, because Kubernetes' runAsNonRoot cannot tell from a name that it is not root.
USER 10001:10001
# In Kubernetes, a service named dte-master sets DTE_MASTER_PORT unless enableServiceLinks is false.
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD dte-health "$DTE_MASTER_PORT" /live
ENTRYPOINT ["dte-master"]
