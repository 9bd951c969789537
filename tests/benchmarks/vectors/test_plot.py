"""Curves of recall against speed."""

from benchmarks.vectors.plot import curve_of, draw_curves, frontier

OTHERS = {"modality": "text", "k": 100, "batch": 100, "threads": 2}


def test_a_curve_is_drawn_through_the_points_that_none_beats(tmp_path, points, measured):
    assert [p.queries_per_second for p in frontier(points)] == [500, 350, 100]
    files = draw_curves(measured, tmp_path / "plots")
    assert sorted(file.name for file in files) == [
        "recall-10-1-thread.png",
        "recall-10-1-thread.svg",
    ]
    assert all(file.stat().st_size > 5000 for file in files)


def test_a_curve_holds_the_points_of_one_workload_by_recall(point, result_of):
    others = [point(0.5, 1, **{name: value}) for name, value in OTHERS.items()]
    result = result_of(point(0.9, 50), *others, point(0.8, 70))
    curve = curve_of(result, "image", 10, 1, 1)
    assert [one.recall for one in curve] == [0.8, 0.9]
