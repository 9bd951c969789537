from api.http.schemas.notes import Failure, NoteList, Notes, PassedOver


def test_paths_that_are_not_text_are_escaped():
    listed = NoteList(
        failures=[Failure(path="/a\udcff.jpg", reason="broken")],
        notes=[Notes(path="/b\udcff.jpg", notes=["cut off"])],
        files_failed=1,
        files_noted=1,
        passed_over=PassedOver(endings={}, system_folders={}),
    )
    assert "\udcff" not in listed.failures[0].path + listed.notes[0].path
    assert NoteList.model_validate_json(listed.model_dump_json()) == listed
