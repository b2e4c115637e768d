from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tubeletx_train.common.processes import forkserver_context
from tubeletx_train.data.frames import Sources
from tubeletx_train.data.record import TimedLabel, VideoRecord
from tubeletx_train.data.table import VideoTable, as_table, fingerprint

_texts = st.text(min_size=1, max_size=4).filter(lambda text: "\0" not in text and text.isprintable())
_records = st.builds(
    VideoRecord,
    path=_texts.map(lambda name: f"/v/{name}"),
    label=st.none() | _texts,
    start=st.none() | st.floats(0, 5),
    end=st.none() | st.floats(6, 9),
    group=st.none() | _texts,
    labels=st.lists(st.builds(TimedLabel, st.just("c1"), st.floats(0, 9), st.floats(0, 9)), max_size=2).map(tuple),
    boundaries=st.sets(st.integers(0, 99), max_size=3).map(lambda values: tuple(sorted(values))),
    num_frames=st.none() | st.integers(1, 300),
    fps=st.none() | st.floats(1, 60),
    first_frame=st.none() | st.integers(0, 9),
    reader=st.none() | st.just("pyav"),
)
_checked = st.builds(
    VideoRecord,
    path=st.sampled_from(["/v/a", "/v/b", "/v/ä", "/v/a b"]),
    start=st.none() | st.floats(0, 20),
    end=st.none() | st.floats(20, 40),
    num_frames=st.integers(1, 900),
    fps=st.floats(1, 60),
    width=st.just(8),
    height=st.just(8),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_records, max_size=6))
def test_a_table_reads_as_the_list_that_it_was_made_of(records):
    table = as_table(records)
    assert list(table) == records
    assert table == records
    assert table[1:4] == records[1:4]
    assert [table[-1 - i] for i in range(len(records))] == records[::-1]
    assert pickle.loads(pickle.dumps(table)) == copy.deepcopy(table) == records
    mask = np.arange(len(records)) % 2 == 1
    assert table.select(mask).select(np.arange(mask.sum())[::-1].copy()) == records[1::2][::-1]
    assert list(table.texts("label")) == [record.label for record in records]
    assert table.num_files() == len({record.path for record in records})
    for bad in (len(records), -len(records) - 1):
        with pytest.raises(IndexError):
            table[bad]


def test_columns_that_no_row_knows_read_as_unknown():
    table = as_table([VideoRecord("/a"), VideoRecord("/b", label="x")])
    assert not table.has("fps")
    assert not table.has("group")
    assert table.has("label")
    assert np.isnan(table.numbers("fps")).all()
    assert (table.numbers("num_frames") == -1).all()
    codes, names = table.codes("label")
    assert [names[code] for code in codes] == [None, "x"]
    assert len(as_table([])) == 0


def test_names_that_are_no_text_are_kept():
    assert as_table([VideoRecord("/v/\udcff.mp4")])[0].path == "/v/\udcff.mp4"


def _first_and_size(table: VideoTable, connection) -> None:
    connection.send((table[0], len(table)))


def test_a_process_gets_a_handle_and_sees_the_rows():
    records = [VideoRecord(f"/videos/{i:06}.mp4", label=str(i % 7), num_frames=i + 1) for i in range(20_000)]
    table = as_table(records).select(np.arange(20_000) % 2 == 1)
    context = forkserver_context(VideoTable.__module__)
    ours, theirs = context.Pipe()
    process = context.Process(target=_first_and_size, args=(table, theirs))
    process.start()
    assert ours.poll(120)
    assert ours.recv() == (records[1], 10_000)
    process.join()


@settings(max_examples=80, deadline=None)
@given(st.lists(_checked, min_size=1, max_size=6), st.none() | st.floats(0.5, 8))
def test_sources_are_the_segments_of_each_record_in_the_order_of_paths(records, segment_seconds):
    expected = []
    for record in sorted(records, key=lambda r: r.path):
        first, stop = record.frame_range
        count = 1
        if segment_seconds is not None:
            count = max(round((stop - first) / (segment_seconds * record.fps)), 1)
        edges = np.linspace(first, stop, min(count, stop - first) + 1).round().astype(int).tolist()
        expected += [(record, a, b - a) for a, b in itertools.pairwise(edges)]
    sources = Sources(records, segment_seconds)
    assert [(source.record, source.first, source.num_frames) for source in sources] == expected
    of_file: dict[str, list[int]] = {}
    for index, (record, _, _) in enumerate(expected):
        of_file.setdefault(record.path, []).append(index)
    for index, (record, _, _) in enumerate(expected):
        first, stop = sources.file_of(index)
        assert list(range(first, stop)) == of_file[record.path]


def test_sources_need_checked_records():
    with pytest.raises(ValueError, match=r"/a: num_frames and fps are unknown"):
        Sources([VideoRecord("/a")], None)


def test_fingerprints_tell_lists_apart_but_not_where_they_lie():
    records = [VideoRecord("/v/a.mp4", start=1.0, num_frames=9), VideoRecord("/v/b.mp4", label="x")]
    known = fingerprint(records)
    assert known == fingerprint([replace(record, path=record.path.replace("/v/", "/w/")) for record in records])
    others = [
        records[::-1],
        records[:1],
        [records[0], replace(records[1], path="/v/c.mp4")],
        [replace(records[0], start=2.0), records[1]],
        [records[0], replace(records[1], label="y")],
        [replace(records[0], label="x"), replace(records[1], label=None)],
        [replace(records[0], boundaries=(1, 2)), records[1]],
    ]
    assert len({known, *map(fingerprint, others)}) == 1 + len(others)
    assert known == fingerprint([replace(records[0], fps=8.0), records[1]])
    assert fingerprint(records, labels=False) == fingerprint(others[4], labels=False)


@settings(max_examples=60)
@given(st.lists(_texts, max_size=12), st.booleans(), st.booleans(), st.data())
def test_rows_are_ordered_by_their_paths(names, by_list, sort, data):
    names = [f"/v/{name}" for name in (sorted(names) if sort else names)]
    table = as_table([VideoRecord(name) for name in names])
    if names and data.draw(st.booleans()):
        rows = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=12))
        table, names = table.select(np.array(rows, np.int64)), [names[row] for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tubeletx_train.data.table._PART", 3)
        patch.setattr("tubeletx_train.data.table._CHUNK", 2)
        if by_list:  # as where one path is far longer than the others
            patch.setattr("tubeletx_train.data.table._PADDED_BYTES", 1)
        order, files = table.by_path()
    expected = sorted(range(len(names)), key=names.__getitem__)
    assert order.tolist() == expected
    known = {name: number for number, name in enumerate(sorted(set(names)))}
    assert files.tolist() == [known[names[row]] for row in expected]
    assert table.num_files() == len(known)


def test_columns_longer_than_four_bytes_count(monkeypatch):
    monkeypatch.setattr("tubeletx_train.data.table._MOST_SMALL", 30)
    records = [VideoRecord(f"/v/{number}", label="label" * number) for number in range(1, 9)]
    assert as_table(records) == records


@pytest.mark.parametrize("rows_apart", [1, 3])
def test_texts_that_differ_in_most_rows_are_held_as_such(monkeypatch, rows_apart):
    monkeypatch.setattr("tubeletx_train.data.table._MOST_REPEATED", 5)
    monkeypatch.setattr("tubeletx_train.data.table._CHUNK", 2)
    monkeypatch.setattr("tubeletx_train.data.table._PART", 3)
    groups = [None, None, None, *(f"person {number // rows_apart} ä" for number in range(20)), "person 0 ä", None]
    records = [VideoRecord(f"/v/{i}", label=f"{i % 5}", group=group) for i, group in enumerate(groups)]
    table = as_table(records)
    assert table == records
    rows = np.array([22, 4, 4, 0, 23])
    for part, expected in ((table, groups), (table.select(rows), [groups[row] for row in rows])):
        assert list(part.texts("group")) == expected
        for name in ("label", "group"):
            codes, texts = part.codes(name)
            assert [texts[code] for code in codes] == [getattr(record, name) for record in part]


def test_labels_that_repeat_take_two_bytes_a_row():
    records = [VideoRecord(f"/{row % 10}", label=f"a long name of a class {row % 300}") for row in range(20_000)]
    table = as_table(records)
    assert sum(table._columns[name].nbytes for name in table._columns if name.startswith("label")) < 3 * 20_000
    assert [record.label for record in table] == [record.label for record in records]
