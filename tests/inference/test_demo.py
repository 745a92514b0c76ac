"""demo.py: in a real browser, the very answers of predict.py; nothing is asked of another machine, nothing stays."""

import base64
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flask
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import demo
from app.cli import run_command
from data.content import MAX_BYTES
from data.images.explain import grad_cam, overlay
from inference import web_server
from inference.answering import of_backbone
from inference.load import read_run
from inference.run_record import find_examples
from inference.web_page import load_ask, make_app
from inference.web_server import open_port
from tests.conftest import make_picture
from tests.reports.read_page import BROWSER, text_of
from tests.small_runs import network_of

REPOSITORY = Path(__file__).parent.parent.parent


def expected_bars(folder: Path, path: Path) -> list[tuple[str, float]]:
    """The classes and probabilities of a picture, the likeliest first, as predict.py has them."""
    network = network_of(folder)
    outputs = network.load()(network.reader.read(path.read_bytes())[0][None])
    bars = zip(network.class_names, network.task.probabilities(outputs)[0].tolist(), strict=True)
    return sorted(bars, key=lambda bar: -bar[1])


def bars_of(answer: str) -> list[tuple[str, float]]:
    """The classes and probabilities of an answer."""
    names = re.findall(r'<span class="name">(.*?)</span>', answer)
    return list(zip(names, map(float, re.findall(r'<data value="(.*?)">', answer)), strict=True))


@pytest.fixture
def client_of(tmp_path):
    """A function that returns a client of the page, without a server, by the settings of the page."""

    def make(network, examples=(), **settings):
        return make_app(network, "name", examples, load_ask(network, **settings)).test_client()

    return make


@contextlib.contextmanager
def running_demo(run: Path, temporary: Path):
    """demo.py itself, on any free port: the process and its address; its temporary files are in `temporary`."""
    command = [sys.executable, "demo.py", run, "--port", "0", "--cache-dir", run.parent / "cache"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, **streams) as process:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + process.stderr.read()
        try:
            yield process, found[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chrome or Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser, address: str):
    """A page, and what it asked for and complained of."""
    page = browser.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(address)
    return page


@pytest.fixture(scope="module")
def page(browser, binary_run, tmp_path_factory):
    with running_demo(binary_run, tmp_path_factory.mktemp("temporary")) as (_, address):
        yield open_page(browser, address)


def upload(page, *paths: Path) -> list:
    """Chooses files, and returns the cards of their answers, in their order."""
    from playwright.sync_api import expect

    before = page.locator("article").count()
    page.set_input_files("#picker", [str(path) for path in paths])
    expect(page.locator("article")).to_have_count(before + len(paths), timeout=60_000)
    expect(page.locator("article[aria-busy]")).to_have_count(0, timeout=60_000)
    return [page.locator("article").filter(has_text=path.name) for path in paths]


def bars_shown(card) -> list[tuple[str, float]]:
    values = [float(data.get_attribute("value")) for data in card.locator("data").all()]
    return list(zip(card.locator(".name").all_inner_texts(), values, strict=True))


def test_a_browser_shows_the_probabilities_of_predict_py_and_where_the_network_looked(page, binary_run, tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = make_picture(5, (210, 50, 40), (90, 60)).convert("CMYK")
    picture.save(tmp_path / "cmyk turned.jpg", exif=turned)
    (card,) = upload(page, tmp_path / "cmyk turned.jpg")
    bars = expected_bars(binary_run, tmp_path / "cmyk turned.jpg")
    assert bars_shown(card) == bars
    assert card.locator("data").all_inner_texts() == [f"{probability:.1%}" for _, probability in bars]
    assert card.locator("h2").inner_text() == bars[0][0]
    network = network_of(binary_run)
    (pixels,) = network.reader.read((tmp_path / "cmyk turned.jpg").read_bytes())
    heatmap = grad_cam(network.load().model, pixels[None], np.array([network.class_names.index(bars[0][0])]))[0]
    shown = card.locator("img.looked")
    assert shown.evaluate("image => image.naturalWidth") == pixels.shape[1]
    uri = shown.get_attribute("src").removeprefix("data:image/png;base64,")
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(uri))), overlay(pixels, heatmap))


def test_what_cannot_be_read_shows_the_reason_and_several_at_once_their_own(page, binary_run, tmp_path):
    (tmp_path / "web.jpg").write_text("<html>hello</html>")
    make_picture(1, size=(200, 200)).save(tmp_path / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "whole.png").read_bytes()[:9_000])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (3_100, 3_300, 3), np.uint8)).save(tmp_path / "large.bmp")
    assert (tmp_path / "large.bmp").stat().st_size > 30_000_000
    (tmp_path / "empty.png").touch()
    web, broken, empty, large, whole = upload(
        page, *(tmp_path / name for name in ("web.jpg", "broken.png", "empty.png", "large.bmp", "whole.png"))
    )
    reasons = [card.locator(".reason").inner_text() for card in (web, broken, empty)]
    assert reasons == [
        "This cannot be read: a web page, not a picture.",
        "This cannot be read: truncated: the end of the file is missing.",
        "This cannot be read: empty file.",
    ]
    assert bars_shown(large) == expected_bars(binary_run, tmp_path / "large.bmp")
    assert bars_shown(whole) == expected_bars(binary_run, tmp_path / "whole.png")


def test_an_example_is_answered_at_a_click(page, binary_run):
    from playwright.sync_api import expect

    examples = page.locator(".examples button")
    name = examples.nth(1).get_attribute("title")
    examples.nth(1).click()
    card = page.locator("article").first
    expect(card.locator("data")).to_have_count(2, timeout=60_000)
    assert card.locator(".file").inner_text() == name
    (path,) = (path for path in find_examples(read_run(binary_run), 6, Path()) if path.name == name)
    assert bars_shown(card) == expected_bars(binary_run, path)


def test_no_other_machine_is_asked_and_the_end_is_quiet(browser, binary_run, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    make_picture(9).save(tmp_path / "one.png")
    with running_demo(binary_run, temporary) as (process, address):
        page = open_page(browser, address)
        upload(page, tmp_path / "one.png")
        asked = [url for url in page.asked if not url.startswith("data:")]
        assert page.complaints == []
        assert {address, f"{address}answer"} <= set(asked)
        assert [url for url in asked if not url.startswith(address)] == []
        assert list(temporary.glob("*/*")) == []  # nothing that was uploaded stays
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in error
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "run", ["binary_run", "multi_label_run", pytest.param("fine_tuned_run", marks=pytest.mark.slow)]
)
def test_every_task_is_answered_with_its_labels(run, request, client_of):
    folder = request.getfixturevalue(run)
    recorded = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
    client = client_of(network_of(folder))
    several = "; a picture may be several or none; 32 × 32 pixels."
    assert (several in text_of(client.get("/").text)) == (run == "multi_label_run")
    assert len(recorded) > 3
    for row in recorded[::2].to_dict("records"):
        path = folder.parent / "photos" / row["path"]
        answer = client.post("/answer", data=path.read_bytes()).text
        assert bars_of(answer) == expected_bars(folder, path)
        labels = row["predicted"].replace("|", ", ") or "(none)"
        assert f"<h2>{labels}</h2>" in answer
        assert answer.count('class="answered"') == len(row["predicted"].split("|")) * bool(row["predicted"])
        assert answer.count("<img") == 2


def test_pictures_at_the_same_time_get_their_own_answers(binary_run, client_of):
    app = client_of(network_of(binary_run)).application
    paths = sorted((binary_run.parent / "photos").rglob("*.jpg"))[:12]
    with ThreadPoolExecutor(6) as several:
        answers = list(several.map(lambda path: app.test_client().post("/answer", data=path.read_bytes()).text, paths))
    assert list(map(bars_of, answers)) == [expected_bars(binary_run, path) for path in paths]


def test_a_probability_below_1_is_never_shown_as_100_percent(binary_run):
    bars = [("cat", 0.9999, True), ("dog", 0.0001, False)]
    answer = dict.fromkeys(("unknown_below", "text", "looked")) | {"answer": "cat", "bars": bars, "others": 0}
    shown = answer | {"picture": np.zeros((8, 8, 3), np.uint8)}
    client = make_app(network_of(binary_run), "name", [], lambda *_: shown).test_client()
    page = client.post("/answer", data=next((binary_run.parent / "photos").rglob("*.jpg")).read_bytes()).text
    assert re.findall(r"<data.*?>(.*?)</data>", page) == ["99.9%", "0.0%"]


def test_unknown_is_answered_below_the_given_probability(binary_run, client_of):
    client = client_of(network_of(binary_run), unknown_below=1.0)
    answer = client.post("/answer", data=next((binary_run.parent / "photos").rglob("*.jpg")).read_bytes()).text
    assert "<h2>unknown</h2>" in answer
    assert "No class has a probability of 100%." in answer
    assert 'class="answered"' not in answer


def test_a_pretrained_network_shows_its_likeliest_classes_and_no_map(client_of):
    network = of_backbone("efficientnet_lite0", "imagenet")
    content = io.BytesIO()
    make_picture(3).save(content, "PNG")
    answer = client_of(network).post("/answer", data=content.getvalue()).text
    assert len(bars_of(answer)) == 10
    assert "and 990 more classes, none of them likelier" in text_of(answer)
    assert answer.count("<img") == 1


def test_pages_of_others_cannot_pass_for_this_one_and_this_one_asks_for_nothing_else(binary_run, client_of):
    client = client_of(network_of(binary_run))
    assert client.get("/", headers={"Host": "attacker.example"}).status_code == 400
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert client.post("/answer", content_length=MAX_BYTES + 1).status_code == 413
    assert client.post("/examples/0").status_code == 404
    refused = client.post("/answer", data=b"")
    assert refused.status_code == 400
    assert "This cannot be read: empty file." in refused.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://attacker.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 400),
        ({"Host": "127.0.0.1:7860", "Origin": "http://127.0.0.1:7860"}, 400),
        ({}, 400),  # nothing was sent, which is read and refused
    ],
)
def test_a_picture_is_taken_from_its_own_page_alone(binary_run, client_of, headers, status):
    assert client_of(network_of(binary_run)).post("/answer", data=b"", headers=headers).status_code == status


def test_connections_that_send_nothing_more_block_no_others(binary_run, tmp_path):
    picture = next((binary_run.parent / "photos").rglob("*.jpg"))
    with running_demo(binary_run, tmp_path) as (process, address), contextlib.ExitStack() as connections:
        host, port = urllib.parse.urlsplit(address).netloc.split(":")
        for _ in range(20):
            connection = connections.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(f"POST /answer HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nabc".encode())
        with urllib.request.urlopen(f"{address}answer", picture.read_bytes(), timeout=60) as answer:
            assert bars_of(answer.read().decode()) == expected_bars(binary_run, picture)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in error


def test_a_connection_that_sends_nothing_more_is_closed(monkeypatch):
    monkeypatch.setattr(web_server, "IDLE_SECONDS", 1)
    app = flask.Flask("empty")
    app.config["MAX_CONTENT_LENGTH"] = 1000
    listener = open_port(0)
    threading.Thread(target=web_server.serve, args=(app, listener), daemon=True).start()
    with socket.create_connection(listener.getsockname(), timeout=60) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc")
        assert connection.recv(1) == b""
    with socket.create_connection(listener.getsockname(), timeout=60) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_names_are_shown_as_they_are(binary_run, client_of, tmp_path):
    network = network_of(binary_run)._replace(class_names=("<b>cat", "dog"))
    make_picture(0).save(tmp_path / "<i>.png")
    client = client_of(network, [tmp_path / "<i>.png", tmp_path / "gone.png"])
    page = client.get("/").text
    assert "&lt;b&gt;cat, dog" in page
    assert page.count("<button") == 1
    assert 'title="&lt;i&gt;.png"' in page
    assert '<span class="name">&lt;b&gt;cat</span>' in client.post("/examples/0").text


def test_examples_are_test_pictures_that_are_still_there(binary_run, tmp_path):
    run = read_run(binary_run)
    recorded = pd.read_csv(binary_run / "predictions.csv", keep_default_na=False)
    examples = find_examples(run, 3, tmp_path)
    assert len(examples) == 3
    names = {path.relative_to(binary_run.parent / "photos").as_posix() for path in examples}
    assert names <= set(recorded["path"][recorded["split"] == "test"])

    def of_data(data: str) -> list[Path]:
        return find_examples(run._replace(config=run.config.replace(data=data)), 3, tmp_path)

    assert of_data(str(tmp_path / "gone")) == []
    assert of_data("tfds:mnist") == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "or --backbone NAME; received neither."),
        (["runs/x", "--backbone", "mobilenet"], "or --backbone NAME; received both."),
        (["nowhere"], "there is no folder 'nowhere'"),
        (["tests"], "'tests' has no config.json"),
        (["--backbone", "mobilnet"], "Did you mean 'mobilenet'?"),
        (["--weights", "x.h5", "runs/x"], "--weights is for --backbone"),
        (["runs/x", "--port", "70000"], "--port must be a whole number of at least 0 and below 65536; received 70000"),
        (["runs/x", "--unknown-below", "0"], "--unknown-below must be a number above 0 and at most 1"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(monkeypatch, capsys, args, message):
    monkeypatch.chdir(REPOSITORY)
    assert run_demo(monkeypatch, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_port_that_is_taken_is_one_line(monkeypatch, capsys):
    with open_port(0) as taken:
        port = taken.getsockname()[1]
        assert run_demo(monkeypatch, "--backbone", "efficientnet_lite0", "--port", port) == 2
    assert capsys.readouterr().err.startswith(f"error: --port {port} cannot be used (Address already in use). Take ")


def run_demo(monkeypatch, *args: object) -> int:
    """Calls demo.py and returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, args)])
    with pytest.raises(SystemExit) as exit_request:
        run_command(demo.main)
    return exit_request.value.code
