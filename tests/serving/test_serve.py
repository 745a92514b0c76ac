"""serve.py: the very answers of predict.py; what is too large, too slow or of another site is refused; it ends well."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient

import serve
from app.cli import run_command
from app.flags import parse_flags
from inference.web_server import open_port
from serving import guard, http_server
from serving.api import make_api
from serving.limits import Limits
from tests.small_runs import network_of

REPOSITORY = Path(__file__).parent.parent.parent


def photos_of(folder: Path) -> list[Path]:
    return sorted((folder.parent / "photos").rglob("*.jpg"))


def expected(folder: Path, path: Path) -> dict[str, float]:
    """The probability of each class, as predict.py has it."""
    network = network_of(folder)
    outputs = network.load()(network.reader.read(path.read_bytes())[0][None])
    return dict(zip(network.class_names, network.task.probabilities(outputs)[0].tolist(), strict=True))


def files_of(*paths: Path) -> list[tuple[str, tuple[str, bytes]]]:
    """The form of a request."""
    return [("files", (path.name, path.read_bytes())) for path in paths]


@contextlib.contextmanager
def client_of(folder: Path, limits: Limits | None = None, **settings) -> Iterator[TestClient]:
    """A client of the app, without a server."""
    hosts = ("127.0.0.1", "localhost")
    api = make_api(network_of(folder), "name", limits or Limits(), hosts=hosts, **settings)
    with TestClient(api, base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture(scope="module")
def client(binary_run):
    with client_of(binary_run) as client:
        yield client


@pytest.mark.parametrize("run", ["binary_run", "multi_label_run"])
def test_answers_are_those_of_predict_py(run, request):
    folder = request.getfixturevalue(run)
    recorded = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False).to_dict("records")[:5]
    paths = [folder.parent / "photos" / row["path"] for row in recorded]
    with client_of(folder) as client:
        answers = client.post("/predict", files=files_of(*paths)).json()
    assert answers["model"] == "name"
    for row, path, answer in zip(recorded, paths, answers["answers"], strict=True):
        assert (answer["file"], answer["status"], answer["reason"]) == (path.name, "answered", "")
        assert "|".join(answer["predicted"]) == row["predicted"]
        assert answer["probabilities"] == expected(folder, path)
        assert answer["probability"] == max(answer["probabilities"].values())


def test_clients_at_the_same_time_get_their_own_answers(client, binary_run):
    paths = photos_of(binary_run)

    def ask(path: Path) -> dict[str, float]:
        return client.post("/predict", files=files_of(path)).json()["answers"][0]["probabilities"]

    with ThreadPoolExecutor(12) as several:
        assert list(several.map(ask, paths)) == [expected(binary_run, path) for path in paths]


def test_a_file_that_cannot_be_read_has_its_reason_and_costs_the_others_nothing(client, binary_run):
    files = [*files_of(photos_of(binary_run)[0]), ("files", ("a.png", b"<html>")), ("files", ("\x1b", b""))]
    files.append(("files", ("many.csv", b"path,label")))
    first, second, third, fourth = client.post("/predict", files=files).json()["answers"]
    assert first["probabilities"] == expected(binary_run, photos_of(binary_run)[0])
    assert (second["file"], second["status"], second["reason"]) == ("a.png", "unreadable", "a web page, not a picture")
    assert (third["status"], third["reason"], third["probability"]) == ("unreadable", "empty file", None)
    assert fourth["reason"] == "a table, not a picture: send each picture as a file of its own"


def test_unknown_is_answered_below_the_given_probability(binary_run):
    with client_of(binary_run, unknown_below=1.0) as client:
        (answer,) = client.post("/predict", files=files_of(photos_of(binary_run)[0])).json()["answers"]
    assert (answer["status"], answer["predicted"]) == ("unknown", [])
    assert answer["probability"] < 1


def form(*contents: bytes) -> dict:
    return {"files": [("files", ("x.png", content)) for content in contents]}


def in_chunks(size: int) -> Iterator[bytes]:
    yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
    yield from (bytes(2**16) for _ in range(size // 2**16))


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        (form(bytes(2**20)), 413, "A request may have 1 MiB."),
        ({"content": b"", "headers": {**FORM, "Content-Length": "9999999999"}}, 413, "A request may have 1 MiB."),
        ({"content": in_chunks(2**21), "headers": FORM}, 413, "A request may have 1 MiB."),
        (form(*[b""] * 4), 413, "A request may have 3 files."),
        (form(*[b""] * 2_000), 400, "Too many files"),
        ({"content": b"x" * 1000, "headers": FORM}, 400, "Invalid multipart data"),
        ({"content": b"--x--", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b'{"files": []}', "headers": {"Content-Type": "application/json"}}, 422, "files"),
        ({"data": {"files": "text"}}, 422, "files"),
        ({}, 422, "files"),
        ({**form(b"x"), "headers": {"Host": "attacker.example"}}, 400, "Invalid host header"),
        ({**form(b"x"), "headers": {"Sec-Fetch-Site": "cross-site"}}, 403, "another site"),
        ({**form(b"x"), "headers": {"Origin": "http://attacker.example"}}, 403, "another site"),
        ({**form(b"x"), "headers": {"Origin": "http://localhost:8000"}}, 403, "another site"),
        ({**form(b"x"), "headers": {"Origin": "null"}}, 403, "another site"),
        (
            {**form(b"x"), "headers": {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}},
            200,
            "reason",
        ),
    ],
)
def test_a_hostile_request_is_refused_with_a_sentence_and_the_next_is_answered(binary_run, asked, status, said):
    with client_of(binary_run, Limits(max_mib=1, max_files=3)) as client:
        answer = client.post("/predict", **asked)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
        assert client.post("/predict", files=files_of(photos_of(binary_run)[0])).status_code == 200


def test_more_bytes_than_may_be_held_are_refused_until_others_are_answered(binary_run, monkeypatch):
    with client_of(binary_run) as client:
        monkeypatch.setattr(guard, "MOST_HELD", 1)
        answer = client.post("/predict", **form(bytes(2**20)))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.post("/predict", **form(bytes(2**19))).status_code == 200


def test_an_operator_sees_that_it_runs_and_what_it_did(binary_run):
    with client_of(binary_run) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        client.post("/predict", files=files_of(*photos_of(binary_run)[:3]))
        client.post("/predict", **form(b"x"))
        client.get("/<anything>")
        metrics = client.get("/metrics").text
    values = dict(re.findall(r"^(\S+) (\S+)$", metrics, re.MULTILINE))
    assert float(values['headstart_files_total{status="answered"}']) == 3
    assert float(values['headstart_files_total{status="unreadable"}']) == 1
    assert float(values['headstart_requests_total{path="/predict",status="200"}']) == 2
    assert float(values['headstart_requests_total{path="other",status="404"}']) == 1
    assert float(values["headstart_batch_files_sum"]) == 3
    assert float(values['headstart_request_seconds_count{path="/predict"}']) == 2
    assert float(values["process_resident_memory_bytes"]) > 0
    assert "anything" not in metrics


def test_the_page_of_documentation_asks_no_other_machine(client):
    page = client.get("/docs").text
    asked = re.findall(r'(?:src|href)="(.*?)"', page)
    assert asked
    for address in asked:
        assert client.get(address).status_code == 200
    schema = client.get("/openapi.json").json()
    assert {"/predict", "/healthz", "/metrics"} == schema["paths"].keys()


@contextlib.contextmanager
def running_server(run: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """serve.py itself on any free port: the process and its port."""
    command = [sys.executable, "serve.py", str(run), "--port", "0", *flags]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = []
        while not lines or not lines[-1].startswith("serving"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        try:
            yield process, int(re.search(r":(\d+)/docs", lines[-1])[1])
        finally:
            process.kill()


def request_of(path: Path) -> bytes:
    """A whole request, as it goes over the wire."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n%b\r\n--x--\r\n' % path.read_bytes()
    )
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body


def received(connection: socket.socket) -> tuple[int, dict]:
    """The status and the content of an answer, which is the last of its connection."""
    answer = b""
    while some := connection.recv(2**16):
        answer += some
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_requests_that_have_begun_are_answered_after_the_signal_and_no_new_ones(binary_run, number, status):
    path = photos_of(binary_run)[0]
    request = request_of(path)
    with running_server(binary_run) as (process, port), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 60)) for _ in range(20)]
        for connection in connections:
            connection.sendall(request[:-100])
        idle = stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
        with socket.create_connection(("127.0.0.1", port), 60) as first:  # the others have come by its answer
            first.sendall(request.replace(b"Host", b"Connection: close\r\nHost"))
            assert received(first)[0] == 200
        process.send_signal(number)
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 60)
        for connection in connections:
            connection.sendall(request[-100:])
        for connection in connections:
            code, content = received(connection)
            assert (code, content["answers"][0]["probabilities"]) == (200, expected(binary_run, path))
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (status, "interrupted\n")


def test_what_does_not_come_in_time_is_given_up(binary_run, monkeypatch):
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 1)
    api = make_api(network_of(binary_run), "name", Limits(max_seconds=0.5))
    with open_port(0) as listener:
        address = listener.getsockname()
        threading.Thread(target=http_server.serve, args=(api, listener, 1), daemon=True).start()
        for begun in (b"", b"POST /predict HTT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he"):
            with socket.create_connection(address, 60) as connection:
                connection.sendall(begun)
                while connection.recv(2**16):
                    pass
        with socket.create_connection(address, 60) as connection:
            connection.sendall(request_of(photos_of(binary_run)[0])[:-1])
            assert received(connection) == (503, {"detail": "More than 0.5 seconds. Try again later."})


def test_another_host_is_said_with_a_warning(binary_run):
    with running_server(binary_run, "--host", "127.0.0.2") as (_, port):
        with socket.create_connection(("127.0.0.2", port), 60):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 60)
    command = [sys.executable, "serve.py", str(binary_run), "--host", "0.0.0.0", "--port", "0"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert "warning    --host 0.0.0.0: whoever can reach this port can ask" in process.stdout.readline()
        process.kill()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "or --backbone NAME; received neither."),
        (["runs/x", "--backbone", "mobilenet"], "or --backbone NAME; received both."),
        (["nowhere"], "there is no folder 'nowhere'"),
        (["runs/x", "--host", "example.com"], "--host must be an IP address, such as 0.0.0.0; received 'example.com'."),
        (["runs/x", "--max-mib", "0"], "--max-mib must be a whole number of at least 1 and at most 512; received 0"),
        (["runs/x", "--max-seconds", "0"], "--max-seconds must be a number above 0"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(monkeypatch, capsys, args, message):
    assert message in run_serve(monkeypatch, capsys, *args)


def test_without_its_packages_a_line_says_how_to_install_them(monkeypatch, capsys, binary_run):
    monkeypatch.setitem(sys.modules, "fastapi_offline", None)
    assert "pip install -r requirements-serve.txt" in run_serve(monkeypatch, capsys, binary_run)


def test_the_dockerfile_copies_files_that_are_there_and_starts_the_server_with_flags_that_it_has(binary_run):
    lines = [line.split(maxsplit=1) for line in (REPOSITORY / "Dockerfile").read_text().splitlines()]
    steps = {name: value for name, value in lines if name != "#"}
    copied = [name for step, names in lines if step == "COPY" for name in names.split()[:-1]]
    assert all((REPOSITORY / name).exists() for name in copied)
    assert all((REPOSITORY / name).is_file() for name in steps["RUN"].split() if name.endswith(".txt"))
    assert json.loads(steps["ENTRYPOINT"]) == ["python", "serve.py"]
    flags = parse_flags(serve.ServeFlags, json.loads(steps["CMD"]))
    assert (flags.host, str(flags.port), str(flags.run)) == ("0.0.0.0", steps["EXPOSE"], "/model")
    _, probe = steps["HEALTHCHECK"].split(" CMD ")
    with running_server(binary_run) as (_, port):
        command = [sys.executable, *json.loads(probe)[1:-1], json.loads(probe)[-1].replace(":8000/", f":{port}/")]
        proxied = os.environ | {"http_proxy": "http://127.0.0.1:9"}  # as Docker sets it in a container
        assert subprocess.run(command, env=proxied).returncode == 0


def run_serve(monkeypatch, capsys, *args: object) -> str:
    """Calls serve.py, which must end with one line and status 2; returns the line."""
    monkeypatch.setattr(sys, "argv", ["serve.py", *map(str, args)])
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as exit_request:
        run_command(serve.main)
    error = capsys.readouterr().err
    assert (exit_request.value.code, error.count("\n"), error[:7]) == (2, 1, "error: ")
    return error
