"""Groups and overlapping parts stay on one side of a split, whatever their sizes, and no class is left out."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import TrainConfig
from app.errors import UsageError
from data.groups import join_groups, overlaps
from data.kinds import Part, find_kind
from data.prepare import prepare_data
from data.sources import Example, load_source
from data.splits import Splits, assign_splits, missing_classes
from tests.data.sounds.test_sounds import tone, written


def assign_groups(groups: list[dict[str, int]], seed=0, fractions=(0.15, 0.15)) -> tuple[Splits, list[Counter]]:
    """Splits groups, given as the number of examples of each label, and counts the splits of each group."""
    examples = [
        Example(Path(f"{number}/{label}/{index}.png"), (label,), group=f"g{number}")
        for number, group in enumerate(groups)
        for label, count in group.items()
        for index in range(count)
    ]
    looks = [int(example.group[1:]) for example in examples]
    digests = [f"digest of {example.path}" for example in examples]
    val, test = fractions
    splits = assign_splits(
        find_kind("image"), examples, digests, looks, val_fraction=val, test_fraction=test, seed=seed
    )
    sides = [Counter() for _ in groups]
    for number, split in zip(looks, splits.assigned, strict=True):
        sides[number][split] += 1
    assert all(len(side) == 1 for side in sides)
    return splits, sides


@pytest.mark.parametrize(
    "sizes", [[100] * 6 + [3], [100] * 6 + [30], [200, 180, 160, 150, 150, 20], [100] * 5 + [2, 2]]
)
@pytest.mark.parametrize("seed", range(4))
def test_groups_of_about_one_size_and_a_small_one_are_split_sensibly(sizes, seed):
    splits, _ = assign_groups([{"a": size // 2, "b": size - size // 2} for size in sizes], seed)
    shares = Counter(splits.assigned)
    for split in ("val", "test"):
        assert 0.1 * sum(sizes) < shares[split] < 0.25 * sum(sizes)
    assert splits.warnings == []


@pytest.mark.parametrize("seed", range(6))
def test_a_class_that_is_in_few_groups_is_told_where_its_share_is_not_kept(seed):
    sick = [8, 8, 7, 7, 6, 5, 4, 4, 3, 2, 2, 1, 1, 1, 1]
    splits, sides = assign_groups([{"healthy": 80 - count, "sick": count} for count in sick], seed)
    found = Counter()
    for side, count in zip(sides, sick, strict=True):
        found[next(iter(side))] += count
    text = f"groups of 'sick' are so uneven that test gets {found['test']} and val gets {found['val']}, where the "
    text += "fractions ask for 9 and 9; another --split-seed divides them otherwise"
    is_far_off = any(not 4.5 <= found[split] <= 18 for split in ("val", "test"))
    assert splits.warnings == ([text] if is_far_off else [])


@given(
    sizes=st.lists(st.integers(1, 300), min_size=4, max_size=15),
    fractions=st.tuples(st.floats(0.05, 0.3), st.floats(0.05, 0.3)),
    seed=st.integers(0, 99),
)
def test_groups_of_any_sizes_are_split_or_lack_pictures(sizes, fractions, seed):
    wanted = sum(max(1, round(share * sum(sizes))) for share in fractions)
    if wanted >= sum(sizes):
        with pytest.raises(UsageError, match="too few readable pictures"):
            assign_groups([{"a": size} for size in sizes], seed, fractions)
        return
    _, sides = assign_groups([{"a": size} for size in sizes], seed, fractions)
    assert {split for side in sides for split in side} == {"train", "val", "test"}


def test_groups_that_cannot_be_split_as_asked_for_are_told_as_groups():
    splits, sides = assign_groups([{"a": size} for size in (500, 3, 3, 3, 3, 3)])
    assert sides[0] == {"train": 500}
    (warning,) = splits.warnings
    assert warning.startswith("groups of 'a' are so uneven that test gets 9 and val gets 6,")
    assert warning.endswith(" where the fractions ask for 77 and 77")


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_a_few_groups_is_in_every_split(seed):
    groups = [{"a": 8, "b": 1} if number < 4 else {"a": 8} for number in range(30)]
    splits, sides = assign_groups(groups, seed)
    assert {split for side in sides[:4] for split in side} == {"train", "val", "test"}
    assert 20 <= Counter(splits.assigned)["test"] <= 50


@pytest.mark.parametrize(("count", "flags"), [(1, "0 and --val"), (2, "0 or --val")])
def test_a_class_in_too_few_groups_says_which_flags_work(count, flags):
    groups = [*({"a": 9} for _ in range(count)), *({"b": 5} for _ in range(9))]
    with pytest.raises(UsageError, match=rf"'a' is in {count} of them.* Set --test-fraction {flags}-fraction 0\.$"):
        assign_groups(groups)


def test_classes_that_a_split_lacks_are_told():
    picture = find_kind("image")
    examples = [Example(Path(f"{index}.png"), (label,)) for index, label in enumerate("aaaabbbbc")]
    splits = {"train": [0, 1, 4, 5, 8], "val": [2, 6], "test": [3]}
    in_val, in_test = missing_classes(picture, examples, splits, "abc")
    assert in_val == ("val has no picture of c, so its figures do not say how well that is recognised: add pictures")
    assert in_test.startswith("test has no picture of b and c, so")
    assert in_test.endswith("try another --split-seed or a larger --test-fraction")
    assert missing_classes(picture, examples, {"train": range(9), "val": [], "test": []}, "abc") == []
    own = [example._replace(split="test") if example.path.stem == "3" else example for example in examples]
    assert missing_classes(picture, own, splits, "abc")[1].endswith(": add pictures")


def part(name: str, start: float, end: float, label: str = "a", **fields) -> Example:
    return Example(Path(name), (label,), content=Part(Path(name), start, end, lambda *_: b""), **fields)


def test_parts_that_share_a_moment_are_joined_and_others_are_not():
    examples = [
        part("talk.wav", 0, 3),
        part("talk.wav", 3, 5),
        part("./talk.wav", 2, 4),  # overlaps with both
        part("talk.wav", 5, 6),
        part("other.wav", 0, 3),
        Example(Path("whole.wav"), ("a",)),
        part("whole.wav", 7, 8),
        part("whole.wav", 8, 9),
        part("long.wav", 0, 9),
        part("long.wav", 1, 2),
        part("long.wav", 8, 9),
    ]
    numbers = join_groups(np.arange(len(examples)), examples)
    assert [set(np.flatnonzero(numbers == number).tolist()) for number in dict.fromkeys(numbers.tolist())] == [
        {0, 1, 2},
        {3},
        {4},
        {5, 6, 7},
        {8, 9, 10},
    ]
    assert overlaps(examples[:2]) == []


def assign_parts(examples: list[Example], **fractions) -> Splits:
    looks = join_groups(np.arange(len(examples)), examples).tolist()
    fractions = {"val_fraction": 0.15, "test_fraction": 0.15, **fractions}
    digests = [str(index) for index in range(len(examples))]
    return assign_splits(find_kind("sound"), examples, digests, looks, **fractions, seed=0)


def test_overlapping_parts_of_a_recording_stay_on_one_side():
    windows = [part(f"talk{talk}.wav", start, start + 3, "ab"[talk % 2]) for talk in range(12) for start in range(20)]
    splits = assign_parts(windows)
    sides = {(example.content.path, split) for example, split in zip(windows, splits.assigned, strict=True)}
    assert len(sides) == 12
    assert Counter(split for _, split in sides) == {"train": 8, "val": 2, "test": 2}
    assert splits.warnings == []


def test_too_few_recordings_of_overlapping_parts_are_split_all_the_same_with_a_warning():
    windows = [part(f"talk{talk}.wav", start, start + 3, "ab"[talk % 2]) for talk in range(4) for start in range(20)]
    splits = assign_parts(windows)
    assert {"train", "val", "test"} == set(splits.assigned)
    assert splits.warnings[0] == (
        "so many recordings of 'a' look the same or overlap that some are on both sides of the split "
        "(--group-by path never divides a recording)"
    )


def test_overlapping_parts_on_both_sides_of_given_splits_are_told():
    train = [part(f"talk{talk}.wav", start, start + 3, split="train") for talk in range(4) for start in range(9)]
    test = [part("talk0.wav", 10.5, 12, split="test"), part("talk1.wav", 60, 63, split="test")]
    (warning,) = assign_parts(train + test, val_fraction=0.0).warnings
    assert warning.startswith("1 test recording looks like a training recording or overlaps with one; the splits are")


def test_overlapping_windows_of_a_table_stay_on_one_side_and_can_be_grouped_by_path(tmp_path):
    generator = np.random.default_rng(0)
    rows = ["path,label,start,end"]
    for number in range(8):
        notes = [tone(0.2, hertz=float(hertz)) for hertz in generator.uniform(100, 3000, 12)]
        (tmp_path / f"{number}.wav").write_bytes(written(np.concatenate(notes)))
        starts = [0, 0.3, 0.6, 0.9, 1.2]
        rows += [f"{number}.wav,{'ab'[number % 2]},{start},{start + 0.5:g}" for start in starts]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    config = TrainConfig.of(cache_dir=tmp_path / "cache", clip_seconds=1)
    data = prepare_data(load_source(str(tmp_path / "table.csv"), tmp_path), config)
    sides = {(data.examples[row].content.path, split) for split, rows in data.splits.items() for row in rows}
    assert len(sides) == 8
    grouped = load_source(str(tmp_path / "table.csv"), tmp_path, group_by="path")
    assert [example.group for example in grouped.examples[:6]] == ["0.wav"] * 5 + ["1.wav"]
