"""Long work says how far it is, also where no bar can be shown."""

from types import SimpleNamespace

from app import terminal
from app.terminal import progress_bar


def test_without_a_terminal_long_work_prints_a_line_a_minute(monkeypatch, capsys):
    seconds = iter([0, 65, 70, 80, 140, 150, 210])
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with progress_bar("fine-tune", 7) as advance:
        advance(0, "nothing is done")
        advance(2, "val accuracy 90.0%")
        advance()
        advance()
        advance(2)
        advance()
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "fine-tune: 2 of 7 after 70 s; val accuracy 90.0%",
        "fine-tune: 4 of 7 after 140 s",
    ]
