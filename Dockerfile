# Serves a run folder of pictures: docker build -t headstart .
# docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs/NAME:/model:ro" headstart
# A run of texts or recordings, or with a network of KerasHub, needs the packages that it was trained with, too:
# docker build --build-arg PACKAGES="-r requirements-serve.txt -r requirements-texts.txt" -t headstart .
FROM python:3.11-slim
WORKDIR /headstart
COPY requirements.txt requirements-serve.txt requirements-boxes.txt requirements-cluster.txt requirements-hub.txt ./
COPY requirements-sounds.txt requirements-texts.txt ./
ARG PACKAGES="-r requirements-serve.txt"
RUN pip install --no-cache-dir $PACKAGES
COPY . .
RUN useradd --create-home headstart
USER headstart
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["python", "serve.py"]
# 0.0.0.0 is this container; which address of the machine leads to it is said at 'docker run -p'.
CMD ["/model", "--host", "0.0.0.0"]
