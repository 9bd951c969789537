"""`mmsearch facets` as users call it."""


def test_counts_as_text_and_as_json(indexed, run, picture_folder):
    printed = run("facets")
    assert printed.code == 0, printed.err
    assert "6 items" in printed.out
    assert f"        3  {picture_folder}/folder 1" in printed.out
    facets = run("facets", "--json").json
    assert facets["total"] == 6
    assert {found["value"]: found["count"] for found in facets["kinds"]} == {"image": 6}


def test_filters_and_texts(indexed, run):
    assert run("facets", "--path", "folder 1/*", "--json").json["total"] == 3
    assert run("facets", "a dog", "--min-relevance", "0", "--json").json["total"] == 6
    assert run("facets", "a dog", "--min-relevance", "1", "--json").json["total"] == 0
    assert len(run("facets", "--limit", "1", "--json").json["folders"]) == 1


def test_values_of_one_facet(indexed, run, picture_folder):
    top = run("facets", "--facet", "folders", "--json").json
    assert [(value["value"], value["count"]) for value in top["values"]] == [
        (str(picture_folder), 6)
    ]
    asked = ("facets", "--facet", "folders", "--below", picture_folder)
    assert f"        3  {picture_folder}/folder 1" in run(*asked).out
    found = run(*asked, "--contains", "FOLDER 1", "--json").json
    assert [value["value"] for value in found["values"]] == [f"{picture_folder}/folder 1"]
    assert "more values" in run(*asked, "--limit", 1).out
    for wrong in (("--below", "x"), ("--facet", "colours"), ("--facet", "kinds", "--below", "x")):
        assert run("facets", *wrong).code == 2


def test_a_service_counts_the_same(indexed, run, running_service, tmp_path, picture_folder):
    from retrieval.library import open_library

    here = run("facets", "--path", "folder 1/*", "--json").json
    of_folders = ("facets", "a dog", "--min-relevance", 0, "--facet", "folders")
    with running_service(open_library(tmp_path / "library"), picture_folder) as service:
        there = run("facets", "--path", "folder 1/*", "--server", service.address, "--json").json
        there = there, run(*of_folders, "--server", service.address, "--json").json
    assert there == (here, run(*of_folders, "--json").json)
    refused = run("facets", "--server", "localhost:1", "--library", tmp_path)
    assert refused.code == 2
