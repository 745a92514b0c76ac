"""Long work says how far it is, also where no bar can be shown; reasons are counted, not listed."""

from types import SimpleNamespace

from app import terminal
from app.terminal import common_reasons, progress_bar, share_text


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


def test_the_same_reason_for_many_boxes_is_counted_once():
    reasons = ["empty file", "box 13 has no area", "box 4 has no area", "more than 20 MB"]
    assert common_reasons(reasons) == "2 x a box has no area; 1 x empty file; 1 x more than 20 MB"


def test_only_all_of_them_are_100_percent():
    assert [share_text(share) for share in (1, 0.9999, 0.98, 0)] == ["100.0%", "99.9%", "98.0%", "0.0%"]
    assert [share_text(share, 2) for share in (1 - 1e-15, 0.99996)] == ["100.00%", "99.99%"]
