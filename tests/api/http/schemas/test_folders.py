from api.http.schemas.folders import Folder, FolderList


def test_a_list_is_read_back_from_its_json():
    folder = Folder(name="照片", path="/home/ann/照片", is_source=False)
    told = FolderList(path="/home/ann", parent=None, folders=[folder], files=3, is_cut=False)
    assert FolderList.model_validate_json(told.model_dump_json()) == told
