# One image for web server, worker, clock and prepare; docker-compose.yml says which is which.
# It runs without root and on a read-only root: all state lies in one volume, and /tmp is a tmpfs.

# A release of Python and of Debian, named in full. For a build that is the same bytes for ever, add its digest:
#   docker build --build-arg PYTHON=python:3.11.16-slim-bookworm@sha256:… .
ARG PYTHON=python:3.11.16-slim-bookworm

FROM ${PYTHON} AS packages
# The lock alone, so that a change of our own code does not install everything anew.
COPY requirements/runtime.txt /requirements.txt
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install \
      --no-cache-dir --no-compile --disable-pip-version-check --require-hashes --only-binary :all: -r /requirements.txt

FROM ${PYTHON}
# The number is what Kubernetes (runAsNonRoot) and the owner of a mounted secret are compared with.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/countersign countersign \
 && install --directory --owner countersign --group countersign --mode 0700 /var/lib/countersign
COPY --from=packages /opt/venv /opt/venv
WORKDIR /srv/countersign
COPY manage.py gunicorn.conf.py ./
COPY audit audit
COPY certificates certificates
COPY environments environments
COPY locale locale
COPY notices notices
COPY portal portal
COPY rollouts rollouts
COPY sandbox sandbox
COPY static static
COPY templates templates
COPY vault vault
# Owners read it on their health page.
COPY docs/operations.md docs/operations.md

ENV PATH=/opt/venv/bin:$PATH \
    COUNTERSIGN_DATA=/var/lib/countersign/data \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME /var/lib/countersign
EXPOSE 8000
# Ready, and not only alive: 503 names what is missing. It is asked without any proxy that the container may be given.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-c", "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=8); c.request('GET', '/readyz'); a = c.getresponse(); print(a.read().decode()); raise SystemExit(a.status != 200)"]
# What is the same everywhere stands in gunicorn.conf.py.
CMD ["gunicorn", "portal.wsgi:application", "--bind", "0.0.0.0:8000", "--workers", "2", "--graceful-timeout", "25", \
     "--worker-tmp-dir", "/dev/shm"]
