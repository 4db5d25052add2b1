"""OpenAI's shapes on the wire."""

from typing import Any

from marshmallow import EXCLUDE, INCLUDE, Schema, fields, validate

from app.domain.batch import Batch
from app.domain.file import UPLOAD_PURPOSES
from app.domain.lifecycle import Status, shown
from app.domain.limits import MAX_FILE_LIFETIME_S, MIN_FILE_LIFETIME_S

MAX_FILES_PAGE = 10_000
# OpenAI's default is 10,000. Paging clients read on, and a list without a limit stays cheap.
DEFAULT_FILES_PAGE = 100
DEFAULT_BATCHES_PAGE = 20
# Above the lines of any file, and below the largest integer of other languages.
MAX_SKIPPED_LINES = 1_000_000_000
MAX_BATCHES_PAGE = 100

_SHOWN_STATUSES = [status.value for status in Status if shown(status) is status]


class Instant(fields.Integer):
    """Seconds since 1970, whole seconds on the wire."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> int | None:
        return None if value is None else int(value)


class PlainInteger(fields.Integer):
    """A whole number in a query: only decimal digits, although Python reads `1_0` and ` 1` too."""

    def _validated(self, value: Any) -> int:
        if not (isinstance(value, str) and value.isascii() and value.isdigit()):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class WholeNumber(fields.Integer):
    """A whole number in JSON: 3600.0 is valid, "3600" is not."""

    def _validated(self, value: Any) -> int:
        is_whole = isinstance(value, float) and value.is_integer()
        return super()._validated(int(value) if is_whole else value)


def _always(value: str | bool) -> fields.Constant[str | bool]:
    kind = "string" if isinstance(value, str) else "boolean"
    return fields.Constant(value, required=True, metadata={"type": kind, "enum": [value]})


class _Request(Schema):
    class Meta:
        # Clients send extra fields, and extra fields do no harm.
        unknown = EXCLUDE


class ExpiresAfterSchema(_Request):
    """The time from a file's creation to its deletion."""

    anchor = fields.String(required=True, validate=validate.Equal("created_at"))
    seconds = WholeNumber(required=True, strict=True, validate=validate.Range(MIN_FILE_LIFETIME_S, MAX_FILE_LIFETIME_S))


class BatchRequestSchema(_Request):
    """A new batch."""

    input_file_id = fields.String(
        required=True,
        validate=validate.Regexp(r"^\s*\S", error="It is empty: send the id of a file that you uploaded."),
        metadata={"description": "A file uploaded with purpose `batch`."},
    )
    endpoint = fields.String(required=True, metadata={"description": "What all lines ask for, the `url` of each."})
    completion_window = fields.String(
        required=True, metadata={"description": "`24h`; what is not done by then is marked as expired."}
    )
    metadata = fields.Dict(
        keys=fields.String(),
        # The service checks the values, and names the invalid pair.
        values=fields.Raw(allow_none=True),
        allow_none=True,
        load_default=None,
        metadata={"description": "Up to 16 pairs of strings: keys up to 64 characters, values up to 512."},
    )
    output_expires_after = fields.Nested(ExpiresAfterSchema, allow_none=True, load_default=None)


class FilesQuerySchema(_Request):
    """The query for a list of files."""

    purpose = fields.String(load_default=None, validate=validate.Regexp(r"^[A-Za-z0-9_-]{1,64}$"))
    limit = PlainInteger(load_default=DEFAULT_FILES_PAGE, validate=validate.Range(1, MAX_FILES_PAGE))
    order = fields.String(load_default="desc", validate=validate.OneOf(["asc", "desc"]))
    after = fields.String(load_default=None, metadata={"description": "The id of the last file of the page before."})


class ContentQuerySchema(_Request):
    """The query for a file's content: the lines to leave out."""

    offset = PlainInteger(
        load_default=None,
        validate=validate.Range(0, MAX_SKIPPED_LINES),
        metadata={"description": "Lines to leave out at the start, such as the last answer's `X-Last-Line`."},
    )
    skip = PlainInteger(
        load_default=None, validate=validate.Range(0, MAX_SKIPPED_LINES), metadata={"description": "The same."}
    )


class BatchesQuerySchema(_Request):
    """The query for a list of batches."""

    limit = PlainInteger(load_default=DEFAULT_BATCHES_PAGE, validate=validate.Range(1, MAX_BATCHES_PAGE))
    after = fields.String(load_default=None, metadata={"description": "The id of the last batch of the page before."})


class UploadFormSchema(_Request):
    """The fields of an upload besides the file."""

    purpose = fields.String(required=True, validate=validate.OneOf(UPLOAD_PURPOSES))
    expires_after = fields.Nested(ExpiresAfterSchema, load_default=None)


class FileSchema(Schema):
    """A file."""

    id = fields.String(required=True)
    object = _always("file")
    bytes = fields.Integer(required=True)
    created_at = Instant(required=True)
    expires_at = Instant(required=True, allow_none=True)
    filename = fields.String(required=True)
    purpose = fields.String(required=True)
    status = _always("processed")
    # With `allow_none` the description would say "null" twice.
    status_details = fields.Constant(None, required=True, allow_none=False, metadata={"type": "null"})


class FileDeletedSchema(Schema):
    """A deleted file."""

    id = fields.String(required=True)
    object = _always("file")
    deleted = _always(True)


class _ListSchema(Schema):
    """A page; the subclasses add the items."""

    object = _always("list")
    first_id = fields.String(required=True, allow_none=True)
    last_id = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        if attr in {"first_id", "last_id"}:
            edge = 0 if attr == "first_id" else -1
            return obj.items[edge].id if obj.items else None
        return super().get_attribute(obj, attr, default)


class FileListSchema(_ListSchema):
    """A page of files."""

    data = fields.List(fields.Nested(FileSchema), attribute="items", required=True)


class LineErrorSchema(Schema):
    """Why a line was rejected; with `line` null, the whole file."""

    code = fields.String(required=True)
    line = fields.Integer(required=True, allow_none=True)
    message = fields.String(required=True)
    param = fields.String(required=True, allow_none=True)


class LineErrorsSchema(Schema):
    """Why an input file was rejected."""

    object = _always("list")
    data = fields.List(fields.Nested(LineErrorSchema), required=True)


class RequestCountsSchema(Schema):
    """Lines of a batch; `completed` and `failed` grow while the batch runs."""

    total = fields.Integer(required=True)
    completed = fields.Integer(required=True)
    failed = fields.Integer(required=True)


class InputTokensSchema(Schema):
    """Parts of the input tokens."""

    cached_tokens = fields.Integer(required=True)


class OutputTokensSchema(Schema):
    """Parts of the output tokens."""

    reasoning_tokens = fields.Integer(required=True)


class UsageSchema(Schema):
    """Tokens, summed over the lines."""

    input_tokens = fields.Integer(required=True)
    input_tokens_details = fields.Nested(InputTokensSchema, required=True)
    output_tokens = fields.Integer(required=True)
    output_tokens_details = fields.Nested(OutputTokensSchema, required=True)
    total_tokens = fields.Integer(required=True)

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        # The domain's usage keeps the details beside the sums.
        return obj if attr.endswith("_details") else super().get_attribute(obj, attr, default)


class BatchSchema(Schema):
    """A batch with every key; a key without a value is null."""

    id = fields.String(required=True)
    object = _always("batch")
    endpoint = fields.String(required=True)
    model = fields.String(required=True, allow_none=True)
    errors = fields.Nested(LineErrorsSchema, required=True, allow_none=True)
    input_file_id = fields.String(required=True)
    completion_window = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(_SHOWN_STATUSES))
    output_file_id = fields.String(required=True, allow_none=True)
    error_file_id = fields.String(required=True, allow_none=True)
    created_at = Instant(required=True)
    in_progress_at = Instant(required=True, allow_none=True)
    expires_at = Instant(required=True)
    finalizing_at = Instant(required=True, allow_none=True)
    completed_at = Instant(required=True, allow_none=True)
    failed_at = Instant(required=True, allow_none=True)
    expired_at = Instant(required=True, allow_none=True)
    cancelling_at = Instant(required=True, allow_none=True)
    cancelled_at = Instant(required=True, allow_none=True)
    request_counts = fields.Nested(RequestCountsSchema, required=True)
    usage = fields.Nested(UsageSchema, required=True)
    metadata = fields.Dict(keys=fields.String(), values=fields.String(), required=True, allow_none=True)

    def get_attribute(self, obj: Batch, attr: str, default: Any) -> Any:
        if attr == "status":
            return shown(obj.status).value
        if attr == "errors":
            return {"data": obj.errors} if obj.errors else None
        if attr == "request_counts":
            return obj
        return super().get_attribute(obj, attr, default)


class BatchListSchema(_ListSchema):
    """A page of batches, newest first."""

    data = fields.List(fields.Nested(BatchSchema), attribute="items", required=True)


class ModelSchema(Schema):
    """A model of an upstream; further fields from the upstream are passed on."""

    class Meta:
        """INCLUDE is for reading, but lets the description allow further keys."""

        unknown = INCLUDE

    id = fields.String(required=True)
    object = _always("model")
    created = fields.Integer(required=True)
    owned_by = fields.String(required=True)


class ModelListSchema(Schema):
    """All models."""

    object = _always("list")
    data = fields.List(fields.Nested(ModelSchema), required=True)


class ErrorDetailSchema(Schema):
    """The details of an error."""

    message = fields.String(required=True)
    type = fields.String(required=True)
    param = fields.String(required=True, allow_none=True)
    code = fields.String(required=True, allow_none=True)


class ErrorSchema(Schema):
    """An error."""

    error = fields.Nested(ErrorDetailSchema, required=True)


class HealthSchema(Schema):
    """The health of the process."""

    status = fields.String(required=True, metadata={"enum": ["ok"]})
