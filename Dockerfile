# One image for web server, worker and clock; docker-compose.yml says which is which.
FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/countersign countersign
WORKDIR /srv/countersign

# The lock first, so that a change of our own code does not install everything anew.
COPY requirements/runtime.txt requirements/runtime.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/runtime.txt

COPY manage.py ./
COPY audit audit
COPY certificates certificates
COPY environments environments
COPY portal portal
COPY rollouts rollouts
COPY sandbox sandbox
COPY static static
COPY templates templates
COPY vault vault

ENV COUNTERSIGN_DATA=/var/lib/countersign/data PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER countersign
VOLUME /var/lib/countersign
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["gunicorn", "portal.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "2", \
     "--threads", "4", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]
