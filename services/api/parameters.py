"""Parameters that many paths take."""

from typing import Annotated

from fastapi import Header, Path, Query

from services.api.limits import MAX_PAGE_SIZE

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"

RunId = Annotated[str, Path(pattern=ID_PATTERN)]
OperationId = Annotated[str, Path(pattern=ID_PATTERN)]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)]
PageToken = Annotated[str, Query(max_length=256, description="next_page_token of the page before")]
IfMatch = Annotated[str, Header(alias="If-Match", max_length=128, description="the ETag that the caller has seen")]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=128,
        pattern=r"^[\x21-\x7e]*$",
        description="the same key with the same body gets the same answer, for 24 hours",
    ),
]
