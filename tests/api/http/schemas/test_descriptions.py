import base64

import pytest
from pydantic import ValidationError

from api.http.schemas.descriptions import AskRequest, DescribeRequest

IMAGE = base64.b64encode(b"content").decode()


def test_an_image_is_an_item_or_a_file():
    assert DescribeRequest.model_validate({"item": 3}).item == 3
    assert DescribeRequest.model_validate({"image": IMAGE}).image == b"content"
    for wrong in ({}, {"item": 3, "image": IMAGE}, {"item": 3, "other": 1}, {"item": 1 << 70}):
        with pytest.raises(ValidationError):
            DescribeRequest.model_validate(wrong)


@pytest.mark.parametrize("question", ["", "  ", "x" * 2001])
def test_questions_have_limits(question):
    with pytest.raises(ValidationError):
        AskRequest(item=1, question=question)
    assert AskRequest(item=1, question="how many?").max_tokens == 64
